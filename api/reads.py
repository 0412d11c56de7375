"""What clients read: each function one query or one snapshot, always by client (tenant isolation).

Every statement names the client: what belongs to another client is not found, never forbidden.
"""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from asyncpg import Record
from asyncpg.transaction import Transaction

from shared.runtime.postgres import Connection, Pool

# A filtered page looks at so many messages at most; then it says where to go on (about 0.1 s).
SCAN_MAX: Final = 5_000
# So many are passed over at most that only the times leave out (about 0.1 s): ids bound a span of time with
# half a minute on either side, which is this for a client that sends 1,500 a second.
SKIP_MAX: Final = 50_000
# A final state's callback is written in the same commit; its id is at most this far from that moment.
CALLBACK_WINDOW_SECONDS: Final = 5
# Attempts x parts of one message, as many as a page should show. The newest: one that was turned away for
# hours has more, and the one that counts is the last.
ATTEMPTS_MAX: Final = 500
CALLBACKS_MAX: Final = 50

MESSAGE_COLUMNS: Final = """
    m.id, s.state::text as state, m.msisdn, m.sender, m.lane::text as lane, m.encoding, m.segments,
    m.price_micros, m.currency, m.client_ref, s.error_code, c.name as carrier, m.created_at, m.send_at,
    m.valid_until, s.submitted_at, s.final_at, m.is_test
"""


class Found(NamedTuple):
    """One message with everything that belongs to it, from one snapshot."""

    message: Record
    attempts: list[Record]
    callbacks: list[Record]


GET_MESSAGE = (
    "select"
    + MESSAGE_COLUMNS
    + """, m.region, m.delivery::text as delivery, m.rate_version, m.callback_url, m.replay_of,
           s.parts_delivered, s.possible_duplicate, s.late_receipt, t.sealed, l.state::text as hold_state,
           l.amount_micros, l.held_at, l.resolved_at, l.reason, l.late_captured_at
    from tollwire.messages m
    join tollwire.message_states s on s.message_id = $2
    join ledger.credit_locks l on l.message_id = $2
    left join tollwire.message_texts t on t.message_id = $2
    left join tollwire.carriers c on c.id = s.carrier_id
    where m.id = $2 and m.client_id = $1 and (m.is_test or not $3::boolean)
"""
)

GET_ATTEMPTS = """
    select a.attempt_no, a.part_no, c.name as carrier, a.claimed_at, a.outcome::text as outcome, a.outcome_at,
           a.reference, a.error_code, a.receipt::text as receipt, a.receipt_at
    from tollwire.attempts a left join tollwire.carriers c on c.id = a.carrier_id
    where a.message_id = $1 order by a.attempt_no desc, a.part_no desc limit $2
"""

# Callbacks have no index by message (the hot path pays for none): the final state's moment bounds the ids.
GET_CALLBACKS = """
    select id, event_type, created_at, done_at, outcome, status from tollwire.callbacks
    where client_id = $1 and message_id = $2
      and id >= tollwire.uuid7_floor_v1($3::timestamptz - make_interval(secs => $4))
      and id < tollwire.uuid7_floor_v1($3::timestamptz + make_interval(secs => $4))
    order by id limit $5
"""


def snapshot(connection: Connection) -> Transaction:
    """``async with``: statements that see the same rows, whatever commits between them."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def get_message(
    pool: Pool, client_id: int, message_id: UUID, *, is_test_only: bool = False
) -> Found | None:
    """Return a message of this client (``is_test_only``: a test one) with what belongs to it, or None."""
    async with pool.acquire() as connection, snapshot(connection):
        message = await connection.fetchrow(GET_MESSAGE, client_id, message_id, is_test_only)
        if message is None:
            return None
        newest_first = await connection.fetch(GET_ATTEMPTS, message_id, ATTEMPTS_MAX)
        callbacks = []
        if message["final_at"] is not None:
            callbacks = await connection.fetch(
                GET_CALLBACKS,
                client_id,
                message_id,
                message["final_at"],
                CALLBACK_WINDOW_SECONDS,
                CALLBACKS_MAX,
            )
    return Found(message, newest_first[::-1], callbacks)


class MessageFilter(NamedTuple):
    """What a list of messages is narrowed to; None does not narrow. The ids bound what is looked at."""

    state: str | None
    msisdn: str | None
    client_ref: str | None
    lane: str | None
    from_id: UUID
    """The smallest id that may be shown."""
    before_id: UUID
    """Above every id that may be shown."""
    since: datetime | None = None
    until: datetime | None = None
    """Before this time."""
    is_test_only: bool = False

    def up_to(self, id_: UUID) -> "MessageFilter":
        """The same, from this message to older ones."""
        return self._replace(before_id=UUID(int=id_.int + 1))


LIST_OLDER = (
    "with scanned as materialized (select * from tollwire.messages"  # noqa: S608 - constants of this file
    " where client_id = $1 and id >= $2 and id < $3 order by id desc limit $4) select"
    + MESSAGE_COLUMNS
    + """
    from scanned m
    join tollwire.message_states s on s.message_id = m.id
    left join tollwire.carriers c on c.id = s.carrier_id
    where ($5::text is null or s.state = $5::tollwire.message_state) and ($6::text is null or m.msisdn = $6)
      and ($7::text is null or m.client_ref = $7) and ($8::text is null or m.lane = $8::tollwire.lane)
      and ($9::timestamptz is null or m.created_at >= $9) and ($10::timestamptz is null or m.created_at < $10)
      and (m.is_test or not $11::boolean)
    order by m.id desc limit $12
"""
)
LIST_NEWER = LIST_OLDER.replace("order by id desc limit $4", "order by id limit $4").replace(
    "order by m.id desc limit $12", "order by m.id limit $12"
)
LAST_SCANNED_OLDER = """
    select id from tollwire.messages where client_id = $1 and id >= $2 and id < $3
    order by id desc offset $4 limit 1
"""
LAST_SCANNED_NEWER = LAST_SCANNED_OLDER.replace("order by id desc", "order by id")


FIRST_IN_TIME_OLDER = """
    select id from (
        select id, created_at from tollwire.messages where client_id = $1 and id >= $2 and id < $3
        order by id desc limit $4
    ) looked
    where ($5::timestamptz is null or created_at >= $5) and ($6::timestamptz is null or created_at < $6)
    order by id desc limit 1
"""
FIRST_IN_TIME_NEWER = FIRST_IN_TIME_OLDER.replace("order by id desc", "order by id")


async def list_messages(
    pool: Pool, client_id: int, narrow: MessageFilter, limit: int, *, newest_first: bool
) -> tuple[list[Record], UUID | None]:
    """Return a page and the id after which the next one goes on, or None at the end.

    A page looks at ``SCAN_MAX`` messages at most, and passes over ``SKIP_MAX`` on either side, so it may be
    short and still have a next one. Where it stopped is found in the same snapshot: what commits in between
    would move the place, and rows be repeated.
    """
    times = (narrow.since, narrow.until)
    filters = (narrow.state, narrow.msisdn, narrow.client_ref, narrow.lane, *times, narrow.is_test_only)
    query = LIST_OLDER if newest_first else LIST_NEWER
    async with pool.acquire() as connection, snapshot(connection):
        if any(times):
            first, reached = await _first_in_time(connection, client_id, narrow, newest_first=newest_first)
            if first is None:
                return [], reached
            narrow = narrow.up_to(first) if newest_first else narrow._replace(from_id=first)
        bounds = (client_id, narrow.from_id, narrow.before_id)
        rows = await connection.fetch(query, *bounds, SCAN_MAX, *filters, limit)
        if len(rows) == limit:
            return rows, rows[-1]["id"]
        if not any(filters):
            return rows, None
        scanned = LAST_SCANNED_OLDER if newest_first else LAST_SCANNED_NEWER
        reached = await connection.fetchval(scanned, *bounds, SCAN_MAX - 1)
        if reached is None or not newest_first or not any(times):
            return rows, reached
        rest = narrow._replace(before_id=reached)
        first, passed = await _first_in_time(connection, client_id, rest, newest_first=True)
        return rows, passed if first is None else reached


async def _first_in_time(
    connection: Connection, client_id: int, narrow: MessageFilter, *, newest_first: bool
) -> tuple[UUID | None, UUID | None]:
    """Return the first message that the times let in; without one how far was looked, None: to the end."""
    bounds = (client_id, narrow.from_id, narrow.before_id)
    query = FIRST_IN_TIME_OLDER if newest_first else FIRST_IN_TIME_NEWER
    first = await connection.fetchval(query, *bounds, SKIP_MAX, narrow.since, narrow.until)
    if first is not None:
        return first, None
    scanned = LAST_SCANNED_OLDER if newest_first else LAST_SCANNED_NEWER
    return None, await connection.fetchval(scanned, *bounds, SKIP_MAX - 1)


GET_BALANCE = """
    select posted_micros, held_micros, posted_micros - held_micros + credit_limit_micros as available_micros,
           credit_limit_micros, currency, open_holds, version, clock_timestamp() as as_of
    from ledger.accounts where id = $1
"""


async def get_balance(pool: Pool, client_id: int) -> Record | None:
    """Return the account's balance: one row, so one snapshot."""
    return await pool.fetchrow(GET_BALANCE, client_id)


# An adjustment alone has either sign, which its sides tell.
LIST_ENTRIES = """
    select version, at, kind::text as kind,
           case when kind = 'adjustment' and debit_account = account_id then -amount_micros
                else amount_micros end as amount_micros,
           message_id, posted_after_micros, held_after_micros, reference, reason
    from ledger.entries
    where account_id = $1 and version < $2 and version >= $3
      and ($4::text is null or kind = $4::ledger.entry_kind)
      and ($5::timestamptz is null or (at >= $5 and day >= ($5 at time zone 'UTC')::date))
      and ($6::timestamptz is null or (at < $6 and day <= ($6 at time zone 'UTC')::date))
    order by version desc limit $7
"""


class EntryFilter(NamedTuple):
    """Which entries of a statement."""

    before_version: int
    kind: str | None
    since: datetime | None
    until: datetime | None


GET_ENTRY_TIME = "select at from ledger.entries where account_id = $1 and version = $2"


async def list_entries(
    pool: Pool, client_id: int, narrow: EntryFilter, limit: int
) -> tuple[list[Record], int | None]:
    """Return a page of the journal, newest first, and the version below which the next one goes on.

    Versions have no gaps, so a page looks at ``SCAN_MAX`` of them at most and knows where it stopped. Where
    entries were dropped with their days, nothing older is left.
    """
    lowest = max(1, narrow.before_version - SCAN_MAX)
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            LIST_ENTRIES, client_id, narrow.before_version, lowest, *narrow[1:], limit
        )
        if len(rows) == limit:
            return rows, int(rows[-1]["version"])
        if lowest == 1:
            return rows, None
        reached = await connection.fetchval(GET_ENTRY_TIME, client_id, lowest)
    is_past = reached is None or (narrow.since is not None and reached < narrow.since)
    return rows, None if is_past else lowest
