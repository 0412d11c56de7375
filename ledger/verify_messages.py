"""Messages, their locks, states and outbox rows against each other; a range of message ids in one pass."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final
from uuid import UUID

from ledger import verify_marks as marks
from ledger.findings import Finding
from ledger.verify_faults import DELIVERED, FAULTS, RECEIVED, SUBMITTED
from ledger.verify_span import Span
from shared.runtime.postgres import Connection

# How long after its time a message may still be open: the clockwork sweeps within seconds, but may have been
# away for a while, and that is no fault of the books.
OVERDUE_MARGIN_SECONDS: Final = 3600


@dataclass(slots=True)
class Locks:
    """What locks add up to: micros and number of an account's HELD ones, and marks by account's bucket."""

    held_micros: Counter[int] = field(default_factory=Counter)
    open_holds: Counter[int] = field(default_factory=Counter)
    marks: Counter[int] = field(default_factory=Counter)


# What an attempt says, as settle reads it: a receipt of what was taken proves the submit.
WORDS: Final = f"""
    (case when outcome = 'submitted' then {SUBMITTED} else 0 end
     | case when receipt = 'delivered' then {RECEIVED | DELIVERED}
            when receipt not in ('rejected', 'unknown') then {RECEIVED} else 0 end)
"""
# $1, $2: ids [from, to); $3: the key of the marks; $4: the margin in seconds; $5: the currency of all
# accounts, null where they have several. Most messages have one attempt of one part: the rest is gathered.
MESSAGES: Final = """
with again as (
    select message_id as id, count(*) as attempts, max(attempt_no) as last_attempt, bit_or({said}) as words
    from tollwire.attempts
    where message_id >= $1 and message_id < $2 and (attempt_no > 1 or part_no > 1){only}
    group by message_id
), j as (
    select id, m.id is not null as has_message, l.id is not null as has_lock, s.id is not null as has_state,
           o.id is not null as has_outbox, t.id is not null as has_attempt,
           m.client_id, m.price_micros, m.charge, m.valid_until, m.segments, m.currency,
           l.account_id, l.amount_micros, l.state as lock_state,
           l.hold_version, l.held_at, l.resolved_at, l.reason, l.late_captured_at,
           s.state, s.final_at, s.final_at is not null as is_final, s.late_receipt, s.claim_deadline,
           s.submitted_at, s.attempt_no, s.parts_total, k.no_receipt_seconds,
           (t.id is not null)::integer + coalesce(again.attempts, 0) as attempts,
           greatest((t.id is not null)::integer, again.last_attempt) as last_attempt,
           coalesce(t.words, 0) | coalesce(again.words, 0) as words,
           s.final_at <= ({recovered}) as may_be_told
    from (select * from tollwire.messages where id >= $1 and id < $2{only_id}) m
    full join (select message_id as id, * from ledger.credit_locks
               where message_id >= $1 and message_id < $2{only}) l using (id)
    full join (select message_id as id, * from tollwire.message_states
               where message_id >= $1 and message_id < $2{only}) s using (id)
    full join (select message_id as id from tollwire.outbox
               where message_id >= $1 and message_id < $2{only}) o using (id)
    full join (select message_id as id, {said} as words from tollwire.attempts
               where message_id >= $1 and message_id < $2 and attempt_no = 1 and part_no = 1{only}) t
        using (id)
    left join again using (id)
    left join (select id as carrier, no_receipt_seconds from tollwire.carriers) k on k.carrier = s.carrier_id
), f as (
    select j.*, {faults}
    from j
)
select account_id & {bucket}, (coalesce(sum({mark}), 0) % {modulus})::bigint,
       array_agg(concat_ws(' ', id, coalesce(account_id, 0), {words})) filter (where {any})
from f group by 1
"""
# Until when a recovery may have made ends again of which this database has no attempts and no receipts.
RECOVERED: Final = """
    select case when position like 'running%' then 'infinity' else at end
    from tollwire.watermarks where name = 'recover'
"""
_QUERY: Final = (
    MESSAGES.replace("{faults}", ", ".join(f"{fault} as {name}" for name, (_, fault) in FAULTS.items()))
    .replace("{words}", ", ".join(f"case when {name} then '{name}' end" for name in FAULTS))
    .replace("{any}", " or ".join(FAULTS))
    .replace("{recovered}", RECOVERED)
    .replace("{said}", WORDS)
    .replace("{mark}", marks.OF_LOCK)
    .replace("{modulus}", str(marks.MODULUS))
    .replace("{bucket}", str(marks.BUCKETS - 1))
    .replace("{key}", "$3::bigint")
)
QUERY: Final = _QUERY.replace("{only}", "").replace("{only_id}", "")
# $6: the only ids that are looked at.
QUERY_OF_SOME: Final = _QUERY.replace("{only}", " and message_id = any ($6)").replace(
    "{only_id}", " and id = any ($6)"
)


HELD: Final = """
select account_id, sum(amount_micros)::bigint, count(*) from ledger.credit_locks
where message_id >= $1 and message_id < $2 and state = 'HELD' group by account_id
"""


async def fold_messages(
    conn: Connection, low: UUID, high: UUID, key: int, locks: Locks, currency: str | None = None
) -> list[Finding]:
    """Return the messages in [low, high) that are wrong; what their locks add up to goes to ``locks``.

    ``currency`` is that of all accounts, if they have one; else each message's account is looked up.
    """
    rows = await _fetch_hashed(conn, QUERY, low, high, key, OVERDUE_MARGIN_SECONDS, currency)
    for bucket, mark, _ in rows:
        if bucket is not None:
            locks.marks[bucket] += mark
    await fold_held(conn, low, high, locks)
    return _named(faults for _, _, faults in rows)


async def _fetch_hashed(conn: Connection, query: str, *values: object) -> Sequence[Any]:
    """Statistics may say that there are no retries, or no rows at all: hashed, many cost no more than few.

    Ids of one bite lie between two bounds of a histogram, so that is what they say of most bites; in loops a
    thousand messages then took a tenth of a second instead of five milliseconds.
    """
    await conn.execute("set local enable_nestloop = off")
    rows = await conn.fetch(query, *values)
    await conn.execute("set local enable_nestloop = on")
    return rows


def _named(found: Iterable[Sequence[str] | None]) -> list[Finding]:
    findings: list[Finding] = []
    for fault in chain.from_iterable(faults or () for faults in found):
        message, account, *checks = fault.split()
        place = (int(account) or None, UUID(message))
        findings += [Finding(check, FAULTS[check][0], *place) for check in checks]
    return findings


async def fold_held(conn: Connection, low: UUID, high: UUID, locks: Locks) -> None:
    """Add up the HELD locks of the messages in [low, high)."""
    for account, micros, count in await conn.fetch(HELD, low, high):
        locks.held_micros[account] += micros
        locks.open_holds[account] += count


# $1: accounts; $2, $3: days; $4, $5: versions; $6, $7: ids [from, to).
OF_ENTRIES: Final = """
select distinct message_id from ledger.entries
where account_id = any ($1) and day >= $2 and day < $3 and version > $4 and version <= $5
  and message_id >= $6 and message_id < $7
order by 1
"""


async def messages_of_entries(
    conn: Connection, accounts: Sequence[int], span: Span, low: UUID, high: UUID
) -> list[Finding]:
    """Return the messages in [low, high) that are wrong, of those that these accounts' entries are about."""
    place = (accounts, span.from_day, span.to_day, span.after, span.up_to)
    ids = [row[0] for row in await conn.fetch(OF_ENTRIES, *place, low, high)]
    if not ids:
        return []
    bounds = (ids[0], UUID(int=ids[-1].int + 1))
    rows = await _fetch_hashed(conn, QUERY_OF_SOME, *bounds, 0, OVERDUE_MARGIN_SECONDS, None, ids)
    return _named(faults for _, _, faults in rows)


# $1: buckets; $2: the first message whose lock is kept; $3: the key of the marks.
OF_BUCKETS: Final = """
select account_id, (coalesce(sum({mark}), 0) % {modulus})::bigint
from (select *, message_id as id, state as lock_state from ledger.credit_locks) l
where account_id & {bucket} = any ($1) and message_id >= $2
group by account_id
"""
MARKS: Final = (
    OF_BUCKETS.replace("{mark}", marks.OF_LOCK)
    .replace("{modulus}", str(marks.MODULUS))
    .replace("{bucket}", str(marks.BUCKETS - 1))
    .replace("{key}", "$3::bigint")
)


async def account_marks(
    conn: Connection, buckets: Sequence[int], first_message: UUID, key: int
) -> dict[int, int]:
    """Return the marks of the locks of each account in these buckets."""
    rows = await conn.fetch(MARKS, buckets, first_message, key)
    return {account: mark for account, mark in rows}  # noqa: C416 - records


LOCKS_AND_ENTRIES: Final = """
with e as (
    select e.message_id, count(*) filter (where e.kind = 'hold') as holds,
           count(*) filter (where e.kind in ('capture', 'release')) as ends,
           count(*) filter (where e.kind = 'late_capture') as lates
    from ledger.entries e where e.account_id = any ($1) and e.message_id >= $2 group by e.message_id
), c as (
    select l.message_id, l.account_id, l.state, coalesce(e.holds, 0) as holds, coalesce(e.ends, 0) as ends,
           coalesce(e.lates, 0) as lates, (l.state <> 'HELD')::integer as ends_wanted,
           (l.late_captured_at is not null)::integer as lates_wanted
    from ledger.credit_locks l left join e on e.message_id = l.message_id where l.account_id = any ($1)
)
select account_id, message_id, case
        when holds = 0 then 'lock_without_entry' when holds > 1 then 'second_hold'
        when ends < ends_wanted then 'resolution_missing' when ends > ends_wanted then 'second_resolution'
        when lates < lates_wanted then 'late_capture_missing' else 'second_late_capture' end
from c where holds <> 1 or ends <> ends_wanted or lates <> lates_wanted
order by 1, 2
"""
LOCK_WORDS: Final = {
    "lock_without_entry": "no entry placed this hold",
    "second_hold": "several entries placed this hold",
    "resolution_missing": "the hold was resolved and no entry says so",
    "second_resolution": "the hold has more resolutions than one",
    "late_capture_missing": "the hold was captured late and no entry says so",
    "second_late_capture": "the hold was captured late more often than once",
}


async def compare_locks(conn: Connection, accounts: Sequence[int], first_message: UUID) -> list[Finding]:
    """Compare each lock of these accounts with the entries of its message."""
    rows = await conn.fetch(LOCKS_AND_ENTRIES, accounts, first_message)
    return [Finding(check, LOCK_WORDS[check], account, message) for account, message, check in rows]


# The days that hold the entries: partitions of others need no plan.
DAYS_OF_LOCKS: Final = """
select (min(held_at) at time zone 'UTC')::date, (max(held_at) at time zone 'UTC')::date
from ledger.credit_locks where message_id >= $1 and message_id < $2
"""
HOLDS_OF_LOCKS: Final = """
select l.account_id, l.message_id
from (select * from ledger.credit_locks where message_id >= $1 and message_id < $2) l
left join ledger.entries e on e.account_id = l.account_id and e.version = l.hold_version
    and e.day = (l.held_at at time zone 'UTC')::date and e.day between $3 and $4
where not coalesce(
    e.kind = 'hold' and e.message_id = l.message_id and e.amount_micros = l.amount_micros, false)
order by 1, 2
"""


async def find_holds(conn: Connection, low: UUID, high: UUID) -> list[Finding]:
    """Look up the entry that placed each lock in [low, high)."""
    word = LOCK_WORDS["lock_without_entry"]
    days = await conn.fetchrow(DAYS_OF_LOCKS, low, high)
    if days is None or days[0] is None:
        return []
    rows = await conn.fetch(HOLDS_OF_LOCKS, low, high, *days)
    return [Finding("lock_without_entry", word, account, message) for account, message in rows]
