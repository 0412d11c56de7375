"""Proof that a run was exact: nothing lost, nothing twice, and the books whole."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.instance import Instance, verify_command
from bench.recordings import Record

VERIFY_SECONDS: Final = 300.0


class WrongCount(Exception):  # noqa: N818 - named for what happened
    """A run was not exact: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the database has of messages, in counts."""

    messages: int
    held: int
    captured: int
    released: int
    outbox: int
    callbacks_open: int

    def since(self, before: "Totals") -> "Totals":
        """What came after ``before``; what is open now stays."""
        return Totals(
            self.messages - before.messages, self.held, self.captured - before.captured,
            self.released - before.released, self.outbox, self.callbacks_open,
        )  # fmt: skip


_TOTALS = """
    select (select count(*) from tollwire.messages),
           count(*) filter (where state = 'HELD'), count(*) filter (where state = 'CAPTURED'),
           count(*) filter (where state = 'RELEASED'), (select count(*) from tollwire.outbox),
           (select count(*) from tollwire.callbacks where done_at is null)
    from ledger.credit_locks
"""


async def totals(instance: Instance) -> Totals:
    """Count."""
    async with instance.database() as connection:
        rows = await connection.fetch(_TOTALS)
    return Totals(*rows[0])


async def verify(instance: Instance) -> None:
    """`tollwire ledger verify`.

    Raises:
        WrongCount: the books are not whole.
    """
    process = await asyncio.create_subprocess_exec(
        *verify_command(instance), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(VERIFY_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise WrongCount(f"the books are not whole:\n{said.decode()}")


def expect(what: str, found: object, wanted: object) -> None:
    """Insist on an exact count.

    Raises:
        WrongCount: it is another.
    """
    if found != wanted:
        raise WrongCount(f"{what}: {found}, and it must be {wanted}")


def expect_same_messages(accepted: Sequence[Record], called_back: Sequence[Record]) -> None:
    """Insist that each message that was accepted was called back about, once, and no other.

    Raises:
        WrongCount: it was not so.
    """
    expect("callbacks", len(called_back), len(accepted))
    expect("different callbacks", len({record.from_us for record in called_back}), len(accepted))
    wanted = {record.id for record in accepted}
    expect("messages accepted with an id of their own", len(wanted), len(accepted))
    expect(
        "messages called back that were not accepted", {record.id for record in called_back} - wanted, set()
    )
