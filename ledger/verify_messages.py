"""Messages, their locks, states and outbox rows against each other; a range of message ids in one pass."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ledger import verify_marks as marks
from ledger.findings import Finding
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


WORDS: Final = {
    "message_without_lock": "the message has no credit lock",
    "lock_without_message": "there is no message of this lock",
    "message_without_state": "the message has no state",
    "state_without_message": "there is no message of this state",
    "outbox_without_message": "there is no message of this outbox row",
    "lock_of_another_account": "the lock belongs to another account than the message",
    "price_differs": "the lock holds another amount than the message's price",
    "final_unresolved": "the message is final and its hold is still HELD",
    "open_released": "the message is not final and its hold is RELEASED",
    "open_captured": "the message is not final, its plan charges the delivery, and its hold is CAPTURED",
    "delivered_released": "the message is DELIVERED and its hold is RELEASED",
    "undelivered_captured": "the message was not delivered and its hold is CAPTURED against its plan",
    "late_capture_untold": "the hold was captured late and the message does not say so",
    "outbox_missing": "the message waits and has no outbox row",
    "outbox_left_over": "the message needs nobody any more and has an outbox row",
    "hold_overdue": "the message is open long after its time",
}
# $1, $2: ids [from, to); $3: the key of the marks; $4: the margin in seconds.
MESSAGES: Final = """
with j as (
    select id, m.id is not null as has_message, l.id is not null as has_lock, s.id is not null as has_state,
           o.id is not null as has_outbox, m.client_id, m.price_micros, m.charge, m.valid_until,
           l.account_id, l.amount_micros, l.state as lock_state, l.hold_version, l.reason, l.late_captured_at,
           s.state, s.final_at is not null as is_final, s.late_receipt, s.claim_deadline, s.submitted_at,
           k.no_receipt_seconds
    from (select * from tollwire.messages where id >= $1 and id < $2) m
    full join (select message_id as id, * from ledger.credit_locks
               where message_id >= $1 and message_id < $2) l using (id)
    full join (select message_id as id, * from tollwire.message_states
               where message_id >= $1 and message_id < $2) s using (id)
    full join (select message_id as id from tollwire.outbox where message_id >= $1 and message_id < $2) o
        using (id)
    left join (select id as carrier, no_receipt_seconds from tollwire.carriers) k on k.carrier = s.carrier_id
), f as (
    select j.*, has_message and not has_lock as message_without_lock,
           has_lock and not has_message as lock_without_message,
           has_message and not has_state as message_without_state,
           has_state and not has_message as state_without_message,
           has_outbox and not has_state and not has_message as outbox_without_message,
           account_id <> client_id as lock_of_another_account,
           amount_micros <> price_micros as price_differs,
           is_final and lock_state = 'HELD' as final_unresolved,
           not is_final and lock_state = 'RELEASED' as open_released,
           not is_final and lock_state = 'CAPTURED' and charge <> 'submitted' as open_captured,
           state = 'DELIVERED' and lock_state = 'RELEASED' as delivered_released,
           is_final and state <> 'DELIVERED' and lock_state = 'CAPTURED' and charge <> 'submitted'
               and not (state = 'EXPIRED' and coalesce(reason, '') = 'no_receipt') as undelivered_captured,
           late_captured_at is not null and not late_receipt as late_capture_untold,
           state in ('SCHEDULED', 'QUEUED', 'SENDING', 'FAILED_TEMP', 'UNKNOWN') and not has_outbox
               as outbox_missing,
           (is_final or state = 'SENT') and has_outbox as outbox_left_over,
           case when is_final then null
                when state = 'SENT' then submitted_at + no_receipt_seconds * interval '1 second'
                when state = 'SENDING' then greatest(claim_deadline, valid_until)
                else valid_until end < now() - $4 * interval '1 second' as hold_overdue
    from j
)
select account_id & {bucket}, (coalesce(sum({mark}), 0) % {modulus})::bigint,
       array_agg(concat_ws(' ', id, coalesce(account_id, 0), {words})) filter (where {faults})
from f group by 1
"""
QUERY: Final = (
    MESSAGES.replace("{words}", ", ".join(f"case when {word} then '{word}' end" for word in WORDS))
    .replace("{faults}", " or ".join(WORDS))
    .replace("{mark}", marks.OF_LOCK)
    .replace("{modulus}", str(marks.MODULUS))
    .replace("{bucket}", str(marks.BUCKETS - 1))
    .replace("{key}", "$3::bigint")
)


HELD: Final = """
select account_id, sum(amount_micros)::bigint, count(*) from ledger.credit_locks
where message_id >= $1 and message_id < $2 and state = 'HELD' group by account_id
"""


async def fold_messages(conn: Connection, low: UUID, high: UUID, key: int, locks: Locks) -> list[Finding]:
    """Return the messages in [low, high) that are wrong; what their locks add up to goes to ``locks``."""
    findings: list[Finding] = []
    for bucket, mark, faults in await conn.fetch(QUERY, low, high, key, OVERDUE_MARGIN_SECONDS):
        if bucket is not None:
            locks.marks[bucket] += mark
        for fault in faults or ():
            message, account, *checks = fault.split()
            place = (int(account) or None, UUID(message))
            findings += [Finding(check, WORDS[check], *place) for check in checks]
    for account, micros, count in await conn.fetch(HELD, low, high):
        locks.held_micros[account] += micros
        locks.open_holds[account] += count
    return findings


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
