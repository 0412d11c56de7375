"""`tollwire pii erase NUMBER`: a number and what was said to it go, the books stay."""

import dataclasses
import re
import sys

import click

from cli.database_command import actor, database_command
from cli.failures import Exit, Failure
from cli.output import Output
from cli.walk_screen import WalkScreen
from ledger.erase import Erased, Found, StillOpen, erase, find
from shared.runtime.logs import mask_msisdn
from shared.runtime.postgres import Pool

# As the database stores them. A number that is no longer in its country's plan may have to go, too.
E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@click.group()
def pii() -> None:
    """Erase what is stored of a person's number."""


@pii.command("erase")
@click.argument("number")
@click.option("--yes", is_flag=True, help="Do not ask. Programs must say so.")
@click.option("--reason", help="Why, for the audit trail: a ticket, a letter's date.")
@database_command
async def erase_number(pool: Pool, output: Output, number: str, yes: bool, reason: str | None) -> None:
    """Erase NUMBER (+4915112345678) everywhere.

    In messages, receipts, texts and answers of callbacks. Each message keeps its price, its state and its
    place in the books, under a pseudonym. There is no way back. Refused while a message to the number has
    not ended.

    Exit codes: 0 nothing of the number is left, 1 refused, 2 used wrongly, 3 the database does not
    answer, 4 the role may not.
    """
    if not E164.fullmatch(number):
        raise Failure(
            f"{number!r} is no number in E.164.", hint="Right is +4915112345678.", exit_code=Exit.USAGE
        )
    if not yes and (output.as_json or not sys.stdin.isatty()):
        raise Failure("Nobody is there to be asked.", hint="Add --yes.", exit_code=Exit.USAGE)
    try:
        with WalkScreen(output) as shown:
            found = await find(pool, number, shown.tell)
        found.refuse_open()
        if not yes:
            _ask(output, number, found)
        with WalkScreen(output) as shown:
            erased = await erase(pool, number, found, actor(), reason, shown.tell)
    except StillOpen as still_open:
        raise _refusal(still_open) from still_open
    _show(output, number, erased)


def _ask(output: Output, number: str, found: Found) -> None:
    between = ""
    if found.first_at is not None and found.last_at is not None:
        between = f" from {found.first_at:%Y-%m-%d} to {found.last_at:%Y-%m-%d}"
    output.line(f"{found.messages} messages to {number}{between}.")
    click.confirm("  Erase the number? There is no way back.", abort=True)


def _refusal(still_open: StillOpen) -> Failure:
    shown = ", ".join(map(str, still_open.open_messages))
    more = still_open.count - len(still_open.open_messages)
    return Failure(
        f"{still_open.count} messages to the number have not ended.",
        detail=shown + (f" and {more} more" if more else ""),
        hint="Cancel them or wait for their end, then erase again.",
    )


def _show(output: Output, number: str, erased: Erased) -> None:
    if output.as_json:
        output.document({"number": mask_msisdn(number), **dataclasses.asdict(erased)})
        return
    output.line(f"{mask_msisdn(number)} is erased.", "bold")
    output.details(
        (
            ("messages", f"{erased.messages}, now to {erased.pseudonym}" if erased.messages else "none"),
            ("texts", str(erased.texts)),
            ("receipts", str(erased.receipts)),
            ("answers", str(erased.answers)),
        )
    )
    if erased.waiting_receipts:
        output.note(
            f"{erased.waiting_receipts} receipts with the number are not settled yet; "
            "they are within 14 days. Erase it again then."
        )
