"""`tollwire pii erase NUMBER`: a number and what was said to it go, the books stay (RULES 29).

The number in messages becomes a pseudonym: +999, which is assigned to nobody, and twelve random digits.
It is drawn anew for each erasure, not computed from the number: there are so few numbers that whoever has
a hash, or its key, could try them all. All messages that one erasure finds get the same.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.domain.ids import uuid7_time_ms
from shared.runtime.logs import mask_msisdn
from shared.runtime.postgres import Pool, call
from shared.storage.audit import Actor, note

CALL_DEADLINE_SECONDS: Final = 20.0
# Rows looked at in a call: about 0.1 s. Nothing is indexed by number, since only this asks for one.
CHUNK_ROWS: Final = 20_000
FIRST_ID: Final = UUID(int=0)
PSEUDONYM_PREFIX: Final = "+999"
PSEUDONYM_DIGITS: Final = 12
# As many as a person reads.
OPEN_SHOWN_MAX: Final = 20

Progress = Callable[[str, datetime], None]


class StillOpen(Exception):  # noqa: N818 - named for what happened
    """Messages to the number have not ended, and a message needs its number until then."""

    def __init__(self, open_messages: Sequence[UUID], count: int) -> None:
        super().__init__(f"{count} messages have not ended")
        self.open_messages = tuple(open_messages)
        self.count = count


@dataclass(slots=True)
class Found:
    """What there is of a number."""

    messages: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    open_count: int = 0
    open_messages: list[UUID] = field(default_factory=list)

    def add(self, messages: Sequence[UUID], open_messages: Sequence[UUID]) -> None:
        """Count some more, in the order of their ids."""
        if messages:
            self.first_at = self.first_at or _time_of(messages[0])
            self.last_at = _time_of(messages[-1])
        self.messages += len(messages)
        self.open_count += len(open_messages)
        self.open_messages += open_messages[: OPEN_SHOWN_MAX - len(self.open_messages)]

    def refuse_open(self) -> None:
        """Raise StillOpen unless every message has ended."""
        if self.open_count:
            raise StillOpen(self.open_messages, self.open_count)


@dataclass(slots=True)
class Erased:
    """What an erasure took away. ``waiting_receipts`` are not settled yet: they still hold the number."""

    pseudonym: str
    messages: int = 0
    texts: int = 0
    receipts: int = 0
    waiting_receipts: int = 0
    answers: int = 0


FIND = "select o_last, o_found, o_open from tollwire.find_msisdn_v1($1, $2, $3)"


async def find(pool: Pool, msisdn: str, progress: Progress) -> Found:
    """Look through all messages for a number. ``progress`` is told how far it has come."""
    found = Found()
    async for row in _walk(pool, FIND, msisdn, "looking at messages", progress):
        found.add(row["o_found"], row["o_open"])
    return found


ERASE_ANSWERS = "select o_last, o_erased from tollwire.erase_answers_v1($1, $2, $3)"
ERASE_RECEIPTS = "select o_last, o_erased, o_waiting from tollwire.erase_receipts_v1($1, $2, $3)"
ERASE_MESSAGES = "select o_erased, o_texts, o_open from tollwire.erase_messages_v1($1, $2, $3)"


async def erase(
    pool: Pool, msisdn: str, found: Found, by: Actor, reason: str | None, progress: Progress
) -> Erased:
    """Erase what ``find`` has found of a number. Cut off, it can be started again: what is done stays done.

    The audit trail has a line before anything is touched, and one with the counts after it.

    Raises:
        StillOpen: a message to the number has not ended; nothing is erased. One that was accepted only
            after ``find`` is left, and all else is erased.
    """
    found.refuse_open()
    erased = Erased(pseudonym=new_pseudonym())
    await _note(pool, by, "pii.erase", msisdn, {"messages": found.messages}, reason)
    # Before the messages: answers are found by their number. What comes while they go is found by what it
    # is afterwards, and a receipt by what it tells itself.
    await _erase_answers(pool, msisdn, erased, progress)
    arrived = await _erase_messages(pool, msisdn, erased, progress)
    if erased.messages:
        await _erase_answers(pool, erased.pseudonym, erased, progress)
    async for row in _walk(pool, ERASE_RECEIPTS, msisdn, "erasing receipts", progress):
        erased.receipts += row["o_erased"]
        erased.waiting_receipts += row["o_waiting"]
    await _note(pool, by, "pii.erased", msisdn, _counts(erased), reason)
    arrived.refuse_open()
    return erased


async def _erase_answers(pool: Pool, number: str, erased: Erased, progress: Progress) -> None:
    async for row in _walk(pool, ERASE_ANSWERS, number, "erasing answers", progress):
        erased.answers += row["o_erased"]


async def _erase_messages(pool: Pool, msisdn: str, erased: Erased, progress: Progress) -> Found:
    """Return those that had not ended, and are left."""
    arrived = Found()
    async for row in _walk(pool, FIND, msisdn, "erasing messages", progress):
        (done,) = await call(
            pool,
            ERASE_MESSAGES,
            row["o_found"],
            msisdn,
            erased.pseudonym,
            deadline_seconds=CALL_DEADLINE_SECONDS,
        )
        erased.messages += done["o_erased"]
        erased.texts += done["o_texts"]
        arrived.add([], done["o_open"])
    return arrived


def new_pseudonym() -> str:
    """Return a number of E.164's shape that nobody can have, at random."""
    return f"{PSEUDONYM_PREFIX}{secrets.randbelow(10**PSEUDONYM_DIGITS):0{PSEUDONYM_DIGITS}}"


async def _walk(
    pool: Pool, sql: str, msisdn: str, doing: str, progress: Progress
) -> AsyncIterator[asyncpg.Record]:
    """Call a function chunk by chunk until it finds no more rows."""
    after: UUID | None = FIRST_ID
    while after is not None:
        (row,) = await call(pool, sql, msisdn, after, CHUNK_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS)
        after = row["o_last"]
        if after is not None:
            progress(doing, _time_of(after))
            yield row


async def _note(
    pool: Pool, by: Actor, action: str, msisdn: str, after: dict[str, Any], reason: str | None
) -> None:
    async with pool.acquire() as connection:
        target = f"msisdn/{mask_msisdn(msisdn)}"
        await note(connection, by, action, target, before=None, after=after, reason=reason)


def _counts(erased: Erased) -> dict[str, Any]:
    # Without the pseudonym: beside the masked number it would say too much.
    return {
        "messages": erased.messages,
        "texts": erased.texts,
        "receipts": erased.receipts,
        "answers": erased.answers,
    }


def _time_of(id_: UUID) -> datetime:
    return datetime.fromtimestamp(uuid7_time_ms(id_) / 1000, UTC)
