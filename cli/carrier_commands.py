"""`tollwire carrier`: stop, start and slow carriers, and see what they are."""

from contextlib import suppress
from typing import Any

import click
import msgspec

from api.carrier_schemas import RATE_PER_SECOND_MAX, WINDOW_MAX, CarrierList, CarrierShown
from cli.api_client import Api
from cli.api_command import api_command
from cli.failures import Failure, Refused
from cli.output import Output
from cli.target import KeyFile
from cli.words import part
from shared.domain.problems import ProblemCode

CARRIERS = "/admin/v1/carriers"
# What the API shows of a carrier and does not take back.
SHOWN_ONLY = frozenset({"id", "name", "has_secret"})
# How often one is looked at that others keep changing.
LOOKS_MAX = 5

reason_option = click.option("--reason", help="Why; stands in the audit trail.")


@click.group()
def carrier() -> None:
    """Stop, start and slow carriers, and see what they are."""


@carrier.command("list", epilog="Example: tollwire carrier list")
@api_command(KeyFile.ADMIN)
async def list_(api: Api, output: Output) -> None:
    """List the carriers, and which of them are stopped."""
    found = await _carriers(api)
    if output.as_json:
        output.document({"carriers": found})
        return
    rows = [(one.name, _state(one), one.kind, _rate(one), f"{one.window_max:,}") for one in found]
    output.table(["carrier", "state", "kind", ">a second", ">at once"], rows)


@carrier.command(epilog="Example: tollwire carrier show acme-telecom")
@click.argument("name")
@api_command(KeyFile.ADMIN)
async def show(api: Api, output: Output, name: str) -> None:
    """Show the carrier NAME and its settings, without its secret."""
    _tell(output, await _carrier(api, name))


@carrier.command(epilog="Example: tollwire carrier stop acme-telecom --reason 'loses receipts'")
@click.argument("name")
@reason_option
@api_command(KeyFile.ADMIN)
async def stop(api: Api, output: Output, name: str, reason: str | None) -> None:
    """Hand the carrier NAME nothing more, within a second.

    Its messages go to the next carrier of their route; without one they wait, and expire at their time.
    Its receipts are still taken.
    """
    await _change(api, output, name, reason, {"enabled": False})


@carrier.command(epilog="Example: tollwire carrier start acme-telecom")
@click.argument("name")
@reason_option
@api_command(KeyFile.ADMIN)
async def start(api: Api, output: Output, name: str, reason: str | None) -> None:
    """Hand the carrier NAME messages again.

    New ones within a second, what waited soon after.
    """
    await _change(api, output, name, reason, {"enabled": True})


@carrier.command("set", epilog="Example: tollwire carrier set acme-telecom --rate-per-second 50")
@click.argument("name")
@click.option(
    "--rate-per-second",
    type=click.IntRange(0, RATE_PER_SECOND_MAX),
    metavar="N",
    help="Messages a second by each worker process; 0: no limit.",
)
@click.option(
    "--window-max",
    type=click.IntRange(1, WINDOW_MAX),
    metavar="N",
    help="Messages that each worker process may have under way at once.",
)
@reason_option
@api_command(KeyFile.ADMIN)
async def set_(api: Api, output: Output, name: str, reason: str | None, **given: int | None) -> None:
    """Change the speed of the carrier NAME, within a second.

    What is not named stays.
    """
    fields = {key: value for key, value in given.items() if value is not None}
    if not fields:
        raise click.UsageError("Nothing to change: name --rate-per-second or --window-max.")
    await _change(api, output, name, reason, fields)


async def _change(api: Api, output: Output, name: str, reason: str | None, changed: dict[str, Any]) -> None:
    """Set the carrier as it is but for these fields, and show it."""
    _tell(output, await _put_on_top(api, name, {**changed, "reason": reason}))


async def _put_on_top(api: Api, name: str, changed: dict[str, Any]) -> CarrierShown:
    """What another operator changes between our look and our change is looked at again, and stays."""
    for _ in range(LOOKS_MAX - 1):
        with suppress(_Overtaken):
            return await _put(api, name, changed)
    return await _put(api, name, changed)


class _Overtaken(Refused):
    """Somebody else has changed it since it was looked at."""


async def _put(api: Api, name: str, changed: dict[str, Any]) -> CarrierShown:
    """Set the carrier, but for these fields, as it is; its secret stays, since none is sent."""
    fields = msgspec.structs.asdict(await _carrier(api, name))
    body = {key: value for key, value in fields.items() if key not in SHOWN_ONLY} | changed
    try:
        answer = await api.request("PUT", f"{CARRIERS}/{part(name)}", body, may_repeat=True)
    except Refused as refused:
        if refused.problem.code == ProblemCode.CHANGED_MEANWHILE:
            raise _Overtaken(refused.problem) from None
        raise
    return answer.read(CarrierShown)


async def _carriers(api: Api) -> list[CarrierShown]:
    return (await api.get(CARRIERS)).read(CarrierList).carriers


async def _carrier(api: Api, name: str) -> CarrierShown:
    for one in await _carriers(api):
        if one.name == name:
            return one
    raise Failure(f"There is no carrier {name}.", hint="tollwire carrier list shows those there are.")


def _tell(output: Output, shown: CarrierShown) -> None:
    if output.as_json:
        output.document(msgspec.to_builtins(shown))
        return
    lines: list[tuple[str, Any]] = [
        ("Carrier", shown.name),
        ("State", _state(shown)),
        ("Kind", shown.kind),
        ("Rate", f"{_rate(shown)} a second, by each worker" if shown.rate_per_second else _rate(shown)),
        ("Window", f"{shown.window_max:,} at once, by each worker"),
    ]
    lines += [(key, _plain(value)) for key, value in shown.settings.items()]
    output.details(lines)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _state(shown: CarrierShown) -> str:
    return "started" if shown.enabled else "stopped"


def _rate(shown: CarrierShown) -> str:
    return f"{shown.rate_per_second:,}" if shown.rate_per_second else "no limit"
