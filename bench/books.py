"""Proof that a run was exact: nothing lost, nothing twice, and the books whole."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from bench.instance import Instance, verify_command
from bench.recordings import Record

VERIFY_SECONDS: Final = 300.0


class WrongCount(Exception):  # noqa: N818 - named for what happened
    """A run was not exact: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the database has of a run's messages, in counts."""

    messages: int
    captured: int
    released: int
    held: int
    outbox: int
    callbacks_open: int

    @property
    def is_settled(self) -> bool:
        """True when nothing of the run is under way any more."""
        return not (self.held or self.outbox or self.callbacks_open)


# Ids grow with time, so that all after the newest one of before are the run's; found by the primary keys.
_NEWEST: Final = "select coalesce((select id from tollwire.messages order by id desc limit 1), $1::uuid)"
_TOTALS: Final = """
    select (select count(*) from tollwire.messages where id > $1),
           count(*) filter (where state = 'CAPTURED'), count(*) filter (where state = 'RELEASED'),
           count(*) filter (where state = 'HELD'),
           (select count(*) from tollwire.outbox where message_id > $1),
           (select count(*) from tollwire.callbacks where done_at is null and message_id > $1)
    from ledger.credit_locks where message_id > $1
"""


async def newest_message(instance: Instance) -> UUID:
    """The id after which those of a run begin."""
    found: UUID = await instance.value(_NEWEST, UUID(int=0))
    return found


async def totals(instance: Instance, after: UUID) -> Totals:
    """Count what came after the message of this id."""
    async with instance.database() as connection:
        rows = await connection.fetch(_TOTALS, after)
    return Totals(*rows[0])


async def verify(instance: Instance, *options: str) -> None:
    """`tollwire ledger verify`, with options.

    Raises:
        WrongCount: the books are not whole.
    """
    process = await asyncio.create_subprocess_exec(
        *verify_command(instance, *options), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
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
