"""The API's SQL on the hot path: one function call a flush (RULES 1)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from msgspec import Struct
from msgspec.structs import astuple

from shared.domain.fingerprint import FINGERPRINT_VERSION
from shared.events.bundles import Lane
from shared.runtime.postgres import Pool, call

# How long the API has the sole right to publish what it accepted; then the clockwork takes over.
PUBLISH_LEASE_SECONDS: Final = 60
# A flush takes milliseconds. A database that needs longer is in trouble, and the client should hear so.
ACCEPT_DEADLINE_SECONDS: Final = 10.0


class AcceptItem(Struct, frozen=True, gc=False):
    """One message to accept; the fields stand in the order of the function's arrays.

    A Struct is made by name in a fifth of a tuple's time, and is nothing to the collector.
    """

    account_id: int
    message_id: UUID
    key: str | None
    item: int
    fingerprint: bytes
    refusal: str | None
    refusal_args: dict[str, Any] | None
    amount_micros: int
    max_price_micros: int | None
    msisdn: str
    region: str
    sender: str
    lane: Lane
    encoding: str
    segments: int
    currency: str
    rate_version: int
    client_ref: str | None
    delivery: str
    charge: str
    send_at: datetime | None
    valid_seconds: int
    callback_url: str | None
    is_test: bool
    text_sealed: bytes
    text_days: int
    carrier_id: int
    parts: int
    replay_of: UUID | None


class AcceptAnswer(Struct, frozen=True, gc=False):
    """What became of one item; ``outcome`` as in functions/accept_batch_v1.sql."""

    outcome: str
    message_id: UUID
    problem: str | None
    args: dict[str, Any] | None
    available_micros: int | None
    state: str | None
    created_at: datetime
    dispatch_now: bool


ACCEPT = f"select * from tollwire.accept_batch_v1({', '.join(f'${n}' for n in range(1, 33))})"  # noqa: S608 - only numbers


async def accept_batch(
    pool: Pool, items: Sequence[AcceptItem], incarnation: int, lease_seconds: int
) -> list[AcceptAnswer]:
    """Accept a flush of messages; an answer for each position.

    Raises:
        shared.runtime.postgres.OutcomeUnknown: the database never answered; the messages may be there.
    """
    columns = [list(column) for column in zip(*map(astuple, items), strict=True)]
    rows = await call(
        pool,
        ACCEPT,
        *columns,
        FINGERPRINT_VERSION,
        incarnation,
        lease_seconds,
        deadline_seconds=ACCEPT_DEADLINE_SECONDS,
    )
    return [AcceptAnswer(*row) for row in rows]


class KeyAsked(NamedTuple):
    """The ``item``-th request under a client's idempotency key."""

    account_id: int
    key: str
    item: int


class KeyKnown(NamedTuple):
    """What stands under a key: the message that was accepted, or the problem that stays."""

    message_id: UUID
    fingerprint: bytes
    problem: str | None
    args: dict[str, Any] | None
    created_at: datetime


KNOWN_KEYS = "select * from tollwire.known_keys_v1($1, $2, $3)"


async def known_keys(pool: Pool, asked: Sequence[KeyAsked]) -> list[KeyKnown | None]:
    """Return what stands under keys, for each position; None where nothing does."""
    columns = [list(column) for column in zip(*asked, strict=True)]
    rows = await call(pool, KNOWN_KEYS, *columns, deadline_seconds=ACCEPT_DEADLINE_SECONDS)
    return [None if row[0] is None else KeyKnown(*row) for row in rows]


class CancelAnswer(NamedTuple):
    """``outcome``: cancelled, already_cancelled, already_sending, already_final or not_found."""

    outcome: str
    state: str | None


CANCEL = "select o_outcome, o_state from tollwire.cancel_batch_v1($1, $2)"


async def cancel_batch(pool: Pool, wants: Sequence[tuple[int, UUID]]) -> list[CancelAnswer]:
    """Cancel messages, each given as (client, message); an answer for each position."""
    clients, messages = (list(column) for column in zip(*wants, strict=True))
    rows = await call(pool, CANCEL, clients, messages, deadline_seconds=ACCEPT_DEADLINE_SECONDS)
    return [CancelAnswer(*row) for row in rows]


# The ids are bounded for the planner's sake: only their partitions are read.
TEST_MESSAGES = """
    select id from tollwire.messages where id = any($1::uuid[]) and id between $2 and $3 and is_test
"""


async def test_messages(pool: Pool, message_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these that are test messages, whoever's; what one is never changes."""
    ids = sorted(message_ids)
    rows = await call(pool, TEST_MESSAGES, ids, ids[0], ids[-1], deadline_seconds=ACCEPT_DEADLINE_SECONDS)
    return {row[0] for row in rows}


RETURN_LEASES = "select tollwire.return_leases_v1($1, $2)"


async def return_leases(pool: Pool, dispatches: Sequence[tuple[str, int]]) -> None:
    """Give back what could not be published: it is due at once for the clockwork."""
    messages, numbers = (list(column) for column in zip(*dispatches, strict=True))
    await call(pool, RETURN_LEASES, messages, numbers, deadline_seconds=ACCEPT_DEADLINE_SECONDS)


class Accepted(NamedTuple):
    """An accepted message as its first answer told it, with the balance of then."""

    message_id: UUID
    state: str
    msisdn: str
    sender: str
    lane: str
    encoding: str
    segments: int
    price_micros: int
    currency: str
    available_micros: int | None
    client_ref: str | None
    created_at: datetime


# What is due within 50 ms was due, as accept_batch_v1 has it.
# The ids' bounds prune partitions where a list cannot (a plan that is kept for all lists reads them all), and
# a row's others are looked up one by one: in a join the planner may read the tables whole instead.
LOAD_ACCEPTED = """
    select m.id,
           case when m.send_at > m.created_at + interval '50 milliseconds' then 'SCHEDULED' else 'QUEUED' end,
           m.msisdn, m.sender, m.lane::text, m.encoding, m.segments, m.price_micros, m.currency,
           e.posted_after_micros - e.held_after_micros
           + coalesce(o.credit_limit_after_micros, 0), m.client_ref, m.created_at
    from tollwire.messages m
    cross join lateral (
        select l.account_id, l.hold_version, l.held_at from ledger.credit_locks l
        where l.message_id = m.id limit 1) l
    left join lateral (
        select e.posted_after_micros, e.held_after_micros from ledger.entries e
        where e.account_id = l.account_id and e.version = l.hold_version
          and e.day = (l.held_at at time zone 'UTC')::date limit 1) e on true
    -- The credit limit of then: an account begins without one.
    left join lateral (
        select b.credit_limit_after_micros from ledger.operations b
        where b.account_id = l.account_id and b.at <= l.held_at order by b.at desc limit 1) o on true
    where m.id = any($1::uuid[]) and m.id between $2 and $3
"""


async def load_accepted(pool: Pool, message_ids: Collection[UUID]) -> dict[UUID, Accepted]:
    """Rebuild the first answers of accepted messages (RULES 10), all of them by one query."""
    if not message_ids:
        return {}
    ids = sorted(message_ids)
    rows = await call(pool, LOAD_ACCEPTED, ids, ids[0], ids[-1], deadline_seconds=ACCEPT_DEADLINE_SECONDS)
    return {row[0]: Accepted(*row) for row in rows}
