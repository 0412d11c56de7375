"""`tollwire rate`: what a segment costs, by the beginning of the number."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from api.ledger_schemas import RATES_MAX, RatePage, RatesChanged
from cli.api_client import Api
from cli.api_command import api_command
from cli.csv_prices import read_prices
from cli.csv_rows import CsvFault
from cli.failures import Exit, Failure, perhaps_done
from cli.listing import collect
from cli.output import Output, amount_text, count_text, short_time_text
from cli.target import KeyFile
from cli.words import PREFIX, PRICE, AboveZero
from shared.domain.money import MoneyFormatError, parse_micros

RATES = "/admin/v1/rates"
LIST_DEFAULT = 300
PREFIXES_SHOWN_MAX = 10

client_option = click.option(
    "--client", metavar="NAME", help="Of this client alone; else the list for everybody."
)
currency_option = click.option(
    "--currency", default="EUR", show_default=True, help="Of the accounts it is for."
)
reason_option = click.option("--reason", help="Why; stands in the audit trail.")


@click.group()
def rate() -> None:
    """Set and list prices. The longest prefix of a number decides."""


@rate.command(
    "set",
    cls=AboveZero,
    below_zero="A price is not below zero; `tollwire rate remove` ends a rate.",
    epilog="""\b
Examples:
  tollwire rate set 49 0.0750
  tollwire rate set 4915 0.0690 --client acme
  tollwire rate set --csv prices.csv   # columns prefix,price; an empty price ends a rate
""",
)
@click.argument("prefix", type=PREFIX, required=False)
@click.argument("price", type=PRICE, required=False)
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Set the prices of a file with the columns prefix,price.",
)
@click.option("--allow-free", is_flag=True, help="Take a price of 0: such messages are free.")
@client_option
@currency_option
@reason_option
@api_command(KeyFile.ADMIN)
async def set_(
    api: Api,
    output: Output,
    prefix: str | None,
    price: str | None,
    csv_path: Path | None,
    allow_free: bool,
    **given: Any,
) -> None:
    """Set the price of a segment to numbers that begin with PREFIX.

    PREFIX is digits, without the plus. New messages cost it within a second; each message keeps the price
    that it was accepted with.
    """
    if csv_path is not None and prefix is None:
        lines = _read(csv_path)
    elif csv_path is None and prefix is not None and price is not None:
        lines = [{"prefix": prefix.removeprefix("+"), "price": price}]
    else:
        raise click.UsageError("Give PREFIX and PRICE, or --csv FILE.")
    if not allow_free:
        _refuse_free(lines)
    await _set(api, output, lines, given)


@rate.command(epilog="Example: tollwire rate remove 4915 --client acme")
@click.argument("prefixes", type=PREFIX, metavar="PREFIX...", nargs=-1, required=True)
@client_option
@currency_option
@reason_option
@api_command(KeyFile.ADMIN)
async def remove(api: Api, output: Output, prefixes: tuple[str, ...], **given: Any) -> None:
    """End the rates of prefixes.

    A shorter prefix decides then; without one nothing can be sent there.
    """
    lines = [{"prefix": prefix.removeprefix("+"), "price": None} for prefix in prefixes]
    await _set(api, output, lines, given)


@rate.command("list", epilog="Example: tollwire rate list 49 --client acme")
@click.argument("prefix", type=PREFIX, required=False, default="")
@client_option
@click.option("--limit", type=click.IntRange(min=1), default=LIST_DEFAULT, show_default=True, help="At most.")
@api_command(KeyFile.ADMIN)
async def list_(api: Api, output: Output, prefix: str, client: str | None, limit: int) -> None:
    """List the prices in force, of prefixes that begin with PREFIX."""
    query = {"client": client, "prefix": prefix.removeprefix("+")}
    found, has_more = await collect(api, RATES, query, RatePage, lambda page: page.rates, limit=limit)
    if output.as_json:
        output.document({"rates": found, "has_more": has_more})
        return
    rows = [
        (
            one.prefix,
            amount_text(one.price, one.currency),
            one.client or "everybody",
            short_time_text(one.created_at),
        )
        for one in found
    ]
    output.table(["prefix", ">a segment", "for", "since"], rows)
    output.more(has_more)


async def _set(api: Api, output: Output, lines: Sequence[dict[str, Any]], given: dict[str, Any]) -> None:
    """Set rates, RATES_MAX a request: each request's rates come into force together."""
    changed = 0
    for start in range(0, len(lines), RATES_MAX):
        body = {**given, "rates": lines[start : start + RATES_MAX]}
        told = f"The first {start:,} of {len(lines):,} are in force. The same command sets the rest."
        with perhaps_done(told, is_sure=True) if start else nullcontext():
            answer = await api.request("PUT", RATES, body, may_repeat=True)
            changed += answer.read(RatesChanged).changed
    if output.as_json:
        output.document({"changed": changed})
    else:
        output.line(_told(changed, len(lines)))


def _told(changed: int, asked: int) -> str:
    """What became of so many prices."""
    if changed == asked:
        return f"{count_text(asked, 'price')} changed."
    if not changed:
        return f"No price changed: {'it was' if asked == 1 else f'all {asked:,} were'} so already."
    others = asked - changed
    return (
        f"{changed:,} of {asked:,} prices changed; {others:,} {'was' if others == 1 else 'were'} so already."
    )


def _read(path: Path) -> Sequence[dict[str, Any]]:
    try:
        return read_prices(path.read_bytes())
    except (OSError, CsvFault) as error:
        raise Failure(f"{path} cannot be read as prices.", detail=str(error), exit_code=Exit.USAGE) from None


def _refuse_free(lines: Sequence[dict[str, Any]]) -> None:
    free = [line["prefix"] for line in lines if _is_free(line["price"])]
    if free:
        raise Failure(
            "Nothing was changed: a price of 0 makes messages free.",
            detail=f"It stands at the prefix {', '.join(free[:PREFIXES_SHOWN_MAX])}"
            + (f" and {len(free) - PREFIXES_SHOWN_MAX:,} more." if len(free) > PREFIXES_SHOWN_MAX else "."),
            hint="If they are to be free, say so by --allow-free.",
            exit_code=Exit.USAGE,
        )


def _is_free(price: str | None) -> bool:
    """Whether a price is nothing; what is no price at all is refused by the API."""
    try:
        return price is not None and parse_micros(price) == 0
    except MoneyFormatError:
        return False
