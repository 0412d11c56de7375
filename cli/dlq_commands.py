"""`tollwire dlq`: messages that were given up, and another try for them."""

import asyncio
from typing import Any, Final
from uuid import UUID

import click

from api.ledger_schemas import DeadLetterPage, DeadLetterShown
from api.schemas import MessageAccepted
from cli.api_client import Api
from cli.api_command import api_command
from cli.failures import Exit, Failure, Refused, perhaps_done
from cli.listing import collect, limit_option, pages
from cli.output import Output, amount_text, short_time_text
from cli.target import KeyFile

DEAD_LETTERS = "/admin/v1/dead-letters"

client_option = click.option("--client", metavar="NAME", help="Of this client only.")
reason_option = click.option("--reason", metavar="CODE", help="With this reason only.")
GO_ON: Final = "The same command goes on; what is replayed is not sent again."
TEST_MARK: Final = " (test)"
LATE_MARK: Final = " (delivered late)"
TAKEN_MARK: Final = " (with the carrier)"


@click.group()
def dlq() -> None:
    """List dead letters, and replay them."""


@dlq.command("list")
@client_option
@reason_option
@limit_option
@api_command(KeyFile.ADMIN)
async def list_(api: Api, output: Output, client: str | None, reason: str | None, limit: int) -> None:
    """List messages that were given up, newest first."""
    query = {"client": client, "reason": reason}
    found, has_more = await collect(
        api, DEAD_LETTERS, query, DeadLetterPage, lambda page: page.dead_letters, limit=limit
    )
    if output.as_json:
        output.document({"dead_letters": found, "has_more": has_more})
        return
    rows = [
        (
            str(one.message_id), f"{one.client}{TEST_MARK if one.is_test else ''}", short_time_text(one.at),
            str(one.attempts), f"{one.reason}{_mark(one)}",
            amount_text(one.price.amount, one.price.currency) if one.charged else "",
            str(one.replays[-1]) if one.replays else "",
        )
        for one in found
    ]  # fmt: skip
    output.table(["id", "client", "given up", ">attempts", "~reason", ">charged", "last replay"], rows)
    output.more(has_more)


@dlq.command(
    epilog="""\b
Examples:
  tollwire dlq replay 01a1fc6a-9d6b-7485-9fcf-63dce17cfbeb
  tollwire dlq replay --all --reason carrier_unreachable
"""
)
@click.argument("message_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@click.option(
    "--all",
    "wants_all",
    is_flag=True,
    help="All live ones never replayed, nor delivered late or with the carrier, newest first.",
)
@click.option(
    "--number", type=click.IntRange(min=1), default=1, show_default=True, help="The nth replay of a message."
)
@client_option
@reason_option
@api_command(KeyFile.ADMIN)
async def replay(
    api: Api, output: Output, message_ids: tuple[UUID, ...], wants_all: bool, number: int, **query: Any
) -> int:
    """Send dead letters again, each as a new message.

    It has its own price and hold. The same message and number again is the same replay: nothing is sent a
    second time.
    """
    if wants_all == bool(message_ids):
        raise click.UsageError("Name messages by their ID, or all by --all.")
    if wants_all and number != 1:
        raise click.UsageError("--all replays what was never replayed: without --number.")
    ids = message_ids or [letter.message_id for letter in await _never_replayed(api, query)]
    made: list[tuple[UUID, MessageAccepted]] = []
    failures: list[tuple[UUID, Failure]] = []
    try:
        for message_id in ids:
            await _replay(api, message_id, number, made, failures)
    except (Failure, asyncio.CancelledError):  # what is sent, and paid for, is told all the same
        if made or failures:
            _show(output, made, failures)
        with perhaps_done(GO_ON, is_sure=bool(made)):
            raise
    _show(output, made, failures)
    return Exit.FAILED if failures else Exit.DONE


async def _replay(
    api: Api,
    message_id: UUID,
    number: int,
    made: list[tuple[UUID, MessageAccepted]],
    failures: list[tuple[UUID, Failure]],
) -> None:
    """Replay one, and add it to what is made or to what is refused; raise what would stop the others too."""
    try:
        path = f"{DEAD_LETTERS}/{message_id}/replay"
        answer = await api.request("POST", path, {"number": number}, may_repeat=True)
        made.append((message_id, answer.read(MessageAccepted)))
    except Refused as refused:
        if refused.exit_code == Exit.UNAUTHORIZED:
            raise
        failures.append((message_id, refused))


async def _never_replayed(api: Api, query: dict[str, Any]) -> list[DeadLetterShown]:
    found: list[DeadLetterShown] = []
    async for page in pages(api, DEAD_LETTERS, query, DeadLetterPage):
        found += [
            letter
            for letter in page.dead_letters
            if not (letter.replays or letter.is_test or letter.delivered_late or letter.with_carrier)
        ]
    return found


def _mark(letter: DeadLetterShown) -> str:
    if letter.delivered_late:
        return LATE_MARK
    return TAKEN_MARK if letter.with_carrier else ""


def _show(
    output: Output, made: list[tuple[UUID, MessageAccepted]], failures: list[tuple[UUID, Failure]]
) -> None:
    if output.as_json:
        output.document(
            {
                "replayed": [{"replay_of": old, "message": new} for old, new in made],
                "refused": [{"replay_of": old, "problem": failure.document()} for old, failure in failures],
            }
        )
        return
    rows: list[tuple[str, str, str]] = [
        (str(old), str(new.id), amount_text(new.price.amount, new.price.currency)) for old, new in made
    ]
    rows += [(str(old), f"{failure.title}: {failure.detail}", "") for old, failure in failures]
    if rows:
        output.table(["dead letter", "~new message", ">price"], rows)
    output.gap()
    output.line(f"{len(made):,} replayed, {len(failures):,} refused.")
