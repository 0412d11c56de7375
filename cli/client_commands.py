"""`tollwire client`: who pays, and what they may do."""

import secrets
from functools import partial
from typing import Any

import click

from api.admin_schemas import ClientBacklog, ClientPage, ClientShown
from cli.api_client import Answer, Api
from cli.api_command import api_command
from cli.client_options import ANY, settings_options
from cli.credit_commands import held_text, plain_amount
from cli.failures import Exit, Failure, perhaps_done
from cli.listing import collect, limit_option
from cli.output import Output, amount_text, time_text
from cli.target import KeyFile
from cli.words import part
from shared.domain.money import format_micros, parse_micros

CLIENTS = "/admin/v1/clients"
# As ledger.post_credit_v1 takes it: a million million units.
LIMIT_MAX_MICROS = 10**18
UNPACED = "as fast as carriers take it"


@click.group()
def client() -> None:
    """Make, change and list clients."""


@client.command(
    epilog="Example: tollwire client create acme --currency EUR --requests-per-minute 600 --credit-limit 50"
)
@click.argument("name")
@click.option("--currency", default="EUR", show_default=True, help="Of the account, for ever.")
@settings_options
@api_command(KeyFile.ADMIN)
async def create(
    api: Api, output: Output, name: str, currency: str, credit_limit: str | None, **given: Any
) -> None:
    """Make a client with an empty account."""
    limit = None if credit_limit is None else _limit(credit_limit)
    body = {"name": name, "currency": currency, **_body(given)}
    answer = await api.request("POST", CLIENTS, body)
    if limit is not None:
        sets = f"`tollwire client set {name} --credit-limit {limit}` sets its credit limit."
        with perhaps_done(f"The client is made. {sets}", is_sure=True, client=name):
            answer = await _set_limit(api, name, limit, given["reason"])
    _show(output, answer.read(ClientShown))
    output.note(f"`tollwire key create {name}` makes its key, `tollwire credit add {name} 100` tops it up.")


@client.command("set", epilog="Example: tollwire client set acme --messages-per-second 50")
@click.argument("name")
@click.option(
    "--suspend/--resume",
    "suspended",
    default=None,
    help="Stop its sending within a second, and end what waits for good, scheduled too; let it go on.",
)
@settings_options
@api_command(KeyFile.ADMIN)
async def set_(api: Api, output: Output, name: str, credit_limit: str | None, **given: Any) -> None:
    """Change a client; what is not named stays."""
    body = _body(given)
    has_changes = bool(body.keys() - {"reason"})
    if not has_changes and credit_limit is None:
        raise click.UsageError("Nothing to change: name at least one setting.")
    limit = None if credit_limit is None else _limit(credit_limit)
    if body.get("allowed_senders") and "default_sender" not in body:
        shown = (await api.get(f"{CLIENTS}/{part(name)}")).read(ClientShown)
        if shown.default_sender not in body["allowed_senders"]:
            body["default_sender"] = body["allowed_senders"][0]
    change = partial(api.request, "PATCH", f"{CLIENTS}/{part(name)}", body, may_repeat=True)
    if limit is None:
        answer = await change()
    else:
        again = "The same command sets the credit limit, once."
        if has_changes:
            await change()
            again = f"The other settings are changed. {again}"
        with perhaps_done(again, is_sure=has_changes, client=name):
            answer = await _set_limit(api, name, limit, given["reason"])
    _show(output, answer.read(ClientShown))


@client.command("list")
@limit_option
@api_command(KeyFile.ADMIN)
async def list_(api: Api, output: Output, limit: int) -> None:
    """List clients by name, with their balances."""
    found, has_more = await collect(api, CLIENTS, {}, ClientPage, lambda page: page.clients, limit=limit)
    if output.as_json:
        output.document({"clients": found, "has_more": has_more})
        return
    rows = [
        (
            one.name, one.balance.currency, amount_text(one.balance.available), amount_text(one.balance.held),
            f"{one.balance.open_holds:,}", f"{one.requests_per_minute:,}/min", one.charge,
            "suspended" if one.suspended else "",
        )
        for one in found
    ]  # fmt: skip
    columns = [
        "client",
        "currency",
        ">available",
        ">held",
        ">open holds",
        ">requests",
        "charged when",
        "~state",
    ]
    output.table(columns, rows)
    output.more(has_more)


@client.command("show")
@click.argument("name")
@api_command(KeyFile.ADMIN)
async def show(api: Api, output: Output, name: str) -> None:
    """Show a client: its settings, its balance, and what of it waits."""
    _show(output, (await api.get(f"{CLIENTS}/{part(name)}")).read(ClientShown))


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The settings that were named, as the API takes them."""
    body = {name: value for name, value in given.items() if value is not None and value != ()}
    for name in ("allowed_senders", "allowed_countries"):
        if name in body:
            body[name] = None if body[name] == (ANY,) else list(body[name])
    return body


def _limit(text: str) -> str:
    """A credit limit as the API takes it: looked at before the first of two requests.

    Raises:
        Failure: it is none.
    """
    amount = plain_amount(text)
    if not 0 <= parse_micros(amount) <= LIMIT_MAX_MICROS:
        right = f"it is 0 to {amount_text(format_micros(LIMIT_MAX_MICROS))}, not {text}"
        raise Failure("The credit limit is not right.", detail=right, exit_code=Exit.USAGE)
    return amount


async def _set_limit(api: Api, name: str, amount: str, reason: str | None) -> Answer:
    """Set a credit limit, and return the client as it is then."""
    body = {
        "kind": "credit_limit",
        "amount": amount,
        "reference": f"cli-{secrets.token_hex(8)}",
        "reason": reason,
    }
    await api.request("POST", f"{CLIENTS}/{part(name)}/credit", body, may_repeat=True)
    with perhaps_done("The credit limit is set.", is_sure=True):
        return await api.get(f"{CLIENTS}/{part(name)}")


def _show(output: Output, shown: ClientShown) -> None:
    if output.as_json:
        output.document(shown)
        return
    balance = shown.balance
    rate = shown.messages_per_second
    output.details(
        [
            ("Client", f"{shown.name}{' (suspended)' if shown.suspended else ''}"),
            ("Available", amount_text(balance.available, balance.currency)),
            ("Held", held_text(balance)),
            ("Credit limit", amount_text(balance.credit_limit, balance.currency)),
            ("Requests", f"{shown.requests_per_minute:,} a minute, {shown.requests_burst:,} at once"),
            ("Pacing", f"{rate:,} messages a second" if rate else UNPACED),
            ("Charged when", _plan(shown)),
            ("Senders", ", ".join(shown.allowed_senders or [ANY]) + f" (default {shown.default_sender})"),
            ("Countries", _countries(shown)),
            ("Callback hosts", ", ".join(shown.allowed_callback_hosts) or None),
            *_waiting(shown.backlog),
            ("Texts kept", f"{shown.text_retention_days} days"),
            ("Since", time_text(shown.created_at)),
        ]
    )


def _waiting(backlog: ClientBacklog | None) -> list[tuple[str, str]]:
    if backlog is None:
        return []
    lines = [
        ("Waiting", f"{backlog.dispatchable:,} to send, {backlog.scheduled:,} later (time, pace or a retry)")
    ]
    if backlog.dispatchable:
        lines.append(("Oldest", f"{backlog.oldest_seconds:,.0f} s"))
    if backlog.callbacks:
        lines.append(("Callbacks", f"{backlog.callbacks:,}, {backlog.oldest_callback_seconds:,.0f} s late"))
    return lines


def _plan(shown: ClientShown) -> str:
    extras = ["parts are charged"] * shown.partial_charge + [
        "late receipts are free"
    ] * shown.waive_late_capture
    return ", ".join([shown.charge, *extras])


def _countries(shown: ClientShown) -> str:
    countries = shown.allowed_countries
    return "all with a rate" if countries is None else ", ".join(countries) or "none"
