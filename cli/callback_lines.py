"""How `tollwire listen` shows a callback: a line for people, or a JSON object a line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from cli.callback_receiver import Received
from cli.terminal import json_bytes, printable

TYPE_WIDTH = len("message.late_receipt")
MSISDN_WIDTH = len("+491511234567890")
COLOURS = {
    "message.delivered": "green",
    "message.sent": "cyan",
    "callback.test": "cyan",
}


def json_line(received: Received) -> str:
    """One line of JSON."""
    return json_bytes(
        {
            "received_at": datetime.fromtimestamp(received.at)
            .astimezone()
            .isoformat(timespec="milliseconds"),
            "verified": received.is_verified,
            "why_not": received.why_not,
            "answered": received.answered,
            "webhook_id": received.webhook_id,
            "times_seen": received.times_seen,
            "event": received.event,
        },
        indent=0,
    ).decode()


def people_line(received: Received) -> str:
    """One line for people, in colour."""
    time = click.style(_local_time(received.at).strftime("%H:%M:%S"), dim=True)
    if received.event is None:
        mark = click.style("✗ bad signature", fg="red", bold=True)
        return f"{time}  {mark}  {received.why_not} (answered {received.answered})"
    kind = _printable(received.event.get("type", "?"))
    mark = click.style("✓", fg="green", bold=True)
    name = click.style(kind.ljust(TYPE_WIDTH), fg=COLOURS.get(kind, "yellow"))
    parts = [time, f"{mark} {name}", *_about(received.event.get("data"))]
    if received.times_seen > 1:
        parts.append(click.style(f"the same again, {received.times_seen} times now", fg="magenta"))
    if not 200 <= received.answered <= 299:
        parts.append(click.style(f"answered {received.answered}: it will come again", fg="yellow"))
    return "  ".join(parts)


def _local_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def _about(told: object) -> list[str]:
    if not isinstance(told, Mapping) or "to" not in told:
        return [_printable(told.get("note", ""))] if isinstance(told, Mapping) else []
    money = "charged" if told.get("charged") else "not charged"
    parts = [
        _printable(told["to"]).ljust(MSISDN_WIDTH),
        f"{_price(told.get('price'))} {money}".ljust(len("0.0000 EUR not charged")),
        click.style(f"{_printable(told.get('id'))} #{_printable(told.get('sequence'))}", dim=True),
    ]
    if told.get("client_ref"):
        parts.append(_printable(told["client_ref"]))
    error = told.get("error")
    if isinstance(error, Mapping):
        parts.append(click.style(_printable(error.get("code")), fg="red"))
    if told.get("possible_duplicate"):
        parts.append(click.style("possible duplicate", fg="yellow"))
    return parts


def _price(price: object) -> str:
    if not isinstance(price, Mapping):
        return "?"
    return f"{_printable(price.get('amount'))} {_printable(price.get('currency'))}"


def _printable(value: Any) -> str:
    return printable(str(value), shown="")
