"""Entries one by one: against locks and operations, and by their shape.

For accounts whose sums or marks say that something is wrong, and for the small steps beside live traffic.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ledger.findings import Finding
from ledger.verify_span import Span
from shared.runtime.postgres import Connection

# $1: accounts; $2, $3: days; $4, $5: versions; $6: the first message whose lock is kept.
BOUNDS: Final = """
select min(message_id::text collate "C")::uuid, max(message_id::text collate "C")::uuid
from ledger.entries
where account_id = any ($1) and day >= $2 and day < $3 and version > $4 and version <= $5
  and message_id >= $6 and kind not in ('top_up', 'adjustment')
"""
# $6, $7: these bounds. Without them every partition of locks would be looked into for each entry (DESIGN 9).
# A lock by its key for each entry, whatever statistics say: of bounds as near as these they say that there is
# nothing between them, and what is read once for "nothing" is gone through again for each entry.
ENTRIES_AND_LOCKS: Final = """
select e.account_id, e.version, e.message_id, case
        when l.message_id is null then 'entry_without_lock'
        when l.account_id <> e.account_id or l.amount_micros <> e.amount_micros then 'lock_differs'
        when e.kind = 'hold' and l.hold_version <> e.version then 'second_hold'
        when e.kind = 'hold' then 'hold_time_differs'
        when e.kind in ('capture', 'release') and l.resolved_at is distinct from e.at
            then case when l.state::text = upper(e.kind::text) || 'D' then 'resolution_time_differs'
                      else 'second_resolution' end
        when e.kind in ('capture', 'release') and l.reason is distinct from e.reason then 'reason_differs'
        when e.kind in ('capture', 'release') then 'resolution_differs'
        when e.kind = 'late_capture' then 'late_capture_differs' end
from ledger.entries e
left join lateral (
    select * from ledger.credit_locks
    where message_id = e.message_id and message_id between $6 and $7 limit 1) l on true
where e.account_id = any ($1) and e.day >= $2 and e.day < $3 and e.version > $4 and e.version <= $5
  and e.message_id between $6 and $7 and e.kind not in ('top_up', 'adjustment')
  and not coalesce(l.account_id = e.account_id and l.amount_micros = e.amount_micros and case e.kind
        when 'hold' then l.hold_version = e.version and l.held_at = e.at
        when 'late_capture' then l.late_captured_at = e.at
        else l.state::text = upper(e.kind::text) || 'D' and l.resolved_at = e.at
             and l.reason is not distinct from e.reason end, false)
order by 1, 2
"""
ENTRY_WORDS: Final = {
    "entry_without_lock": "there is no lock of this message",
    "lock_differs": "the lock has another amount or account",
    "second_hold": "the lock was placed by another entry",
    "hold_time_differs": "the lock says that it was placed at another time",
    "second_resolution": "the lock was not resolved by this entry",
    "resolution_time_differs": "the lock says that it was resolved at another time",
    "reason_differs": "the lock was resolved for another reason",
    "resolution_differs": "the lock was resolved otherwise",
    "late_capture_differs": "the lock was not captured late by this entry",
}


async def compare_entries(
    conn: Connection, accounts: Sequence[int], span: Span, first_message: UUID
) -> list[Finding]:
    """Compare each entry of these accounts in a span with its message's lock."""
    place = (accounts, span.from_day, span.to_day, span.after, span.up_to)
    bounds = await conn.fetchrow(BOUNDS, *place, first_message)
    if bounds is None or bounds[0] is None:
        return []
    rows = await conn.fetch(ENTRIES_AND_LOCKS, *place, *bounds)
    return [
        Finding(check, f"entry {version}: {ENTRY_WORDS[check]}", account, message)
        for account, version, message, check in rows
    ]


# The same places.
OPERATIONS_AND_ENTRIES: Final = """
select coalesce(e.account_id, o.account_id), e.version, o.reference
from (select account_id, version, kind::text as kind, reference, posted_after_micros as posted,
             case when credit_account = account_id then amount_micros else -amount_micros end as amount
      from ledger.entries
      where account_id = any ($1) and day >= $2 and day < $3 and version > $4 and version <= $5
        and kind in ('top_up', 'adjustment')) e
full join (select account_id, entry_version as version, kind, reference, posted_after_micros as posted,
                  amount_micros as amount
           from ledger.operations
           where account_id = any ($1) and (at at time zone 'UTC')::date >= $2
             and (at at time zone 'UTC')::date < $3 and kind <> 'credit_limit'
             and entry_version > $4 and entry_version <= $5) o
    on o.account_id = e.account_id and o.version = e.version and o.kind = e.kind
       and o.reference = e.reference and o.posted = e.posted and o.amount = e.amount
where e.version is null or o.version is null
order by 1, 2
"""


async def compare_operations(conn: Connection, accounts: Sequence[int], span: Span) -> list[Finding]:
    """Compare the top-ups and adjustments of these accounts in a span with what was asked for by name."""
    findings = []
    place = (accounts, span.from_day, span.to_day, span.after, span.up_to)
    for account, version, reference in await conn.fetch(OPERATIONS_AND_ENTRIES, *place):
        if version is None:
            text = f"the journal has no such entry for the operation {reference}"
            findings.append(Finding("operation_without_entry", text, account))
        else:
            text = f"entry {version}: no operation asked for this credit under this reference"
            findings.append(Finding("entry_without_operation", text, account))
    return findings


# Not: it has its kind's account on each side, and a message where its kind has one. `e`: the entry; `a`: the
# client's account; `s`: the ids of its currency's system accounts.
IS_MISSHAPEN: Final = """
    not coalesce(case e.kind
        when 'hold' then e.debit_account = a.id and e.credit_account = s.holds
        when 'capture' then e.debit_account = s.holds and e.credit_account = s.revenue
        when 'release' then e.debit_account = s.holds and e.credit_account = a.id
        when 'late_capture' then e.debit_account = a.id and e.credit_account = s.revenue
        when 'top_up' then e.debit_account = s.funding and e.credit_account = a.id
        else e.debit_account = a.id and e.credit_account = s.adjustments
             or e.debit_account = s.adjustments and e.credit_account = a.id end
        and e.is_bare = (e.kind in ('top_up', 'adjustment')), false)
"""
SYSTEM_ACCOUNTS: Final = """
    select currency, max(id) filter (where kind = 'holds') as holds,
           max(id) filter (where kind = 'revenue') as revenue,
           max(id) filter (where kind = 'funding') as funding,
           max(id) filter (where kind = 'adjustments') as adjustments
    from ledger.accounts where kind <> 'client' group by currency
"""
MISSHAPEN: Final = """
with s as ({system})
select e.account_id, e.version
from (select *, message_id is null as is_bare from ledger.entries
      where account_id = any ($1) and day >= $2 and day < $3 and version > $4 and version <= $5) e
left join ledger.accounts a on a.id = e.account_id and a.kind = 'client'
left join s on s.currency = a.currency
where {is_misshapen}
order by 1, 2
""".replace("{system}", SYSTEM_ACCOUNTS).replace("{is_misshapen}", IS_MISSHAPEN)


async def find_misshapen(conn: Connection, accounts: Sequence[int], span: Span) -> list[Finding]:
    """Name the entries of these accounts in a span that do not have their kind's shape."""
    word = "debit, credit, message or amount do not fit the kind"
    place = (accounts, span.from_day, span.to_day, span.after, span.up_to)
    rows = await conn.fetch(MISSHAPEN, *place)
    return [Finding("entry_shape", f"entry {version}: {word}", account) for account, version in rows]


# $1, $2: account numbers that are no client's, from and to; $3, $4: days.
OF_NO_CLIENT: Final = """
select e.account_id, e.version
from unnest($1::bigint[], $2::bigint[]) gap (low, high)
cross join lateral (
    select account_id, version from ledger.entries
    where account_id between gap.low and gap.high and day >= $3 and day < $4
    order by account_id, version limit 1) e
"""


async def find_strangers(conn: Connection, gaps: Sequence[tuple[int, int]], span: Span) -> list[Finding]:
    """Name the first entry in each gap between the clients' account numbers, where there is one."""
    lows, highs = [low for low, _ in gaps], [high for _, high in gaps]
    rows = await conn.fetch(OF_NO_CLIENT, lows, highs, span.from_day, span.to_day)
    word = "the account is no client's, and has entries"
    return [Finding("entry_of_no_client", f"entry {version}: {word}", account) for account, version in rows]
