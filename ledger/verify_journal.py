"""The journal against itself: versions, running balances, chain, shape; a range of accounts in one pass.

What can only be wrong for many rows together is answered as sums for each account, among them marks:
sums of a keyed hash over what an entry says of a message. The locks have the same marks (verify_locks),
so two multisets of millions of rows are compared without a join; only where they differ are rows looked
at one by one. The key is new in every run, so nobody can aim at a collision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ledger.findings import Finding
from shared.runtime.postgres import Connection


@dataclass(frozen=True, slots=True)
class Span:
    """Accounts [low, high]; of a single one, perhaps only its versions (after, up_to]."""

    low: int
    high: int
    after: int = 0
    up_to: int = 2**62


@dataclass(frozen=True, slots=True)
class Fold:
    """What the entries of one account add up to in a span; micros, and marks (see above)."""

    account_id: int
    entries: int
    last_version: int
    client_net: int
    holds_net: int
    revenue_net: int
    funding_net: int
    adjustments_net: int
    base_posted: int
    base_held: int
    hold_mark: int
    capture_mark: int
    release_mark: int
    late_mark: int


WORDS: Final = {
    "version_gap": "the version does not follow the one before it",
    "running_balance": "the balance after the entry is not the balance before it and the amount",
    "chain_broken": "the hash does not follow from the entry and the hash before it",
    "entry_shape": "debit, credit, message or amount do not fit the kind",
    "time_backwards": "the entry is older than the one before it",
    "account_differs": "the account's balances or chain head are not those of its last entry",
    "entry_without_operation": "no operation asked for this credit under this reference",
}

# $1, $2: accounts; $3, $4: versions (the entry of version $3 is only the base); $5: the first message whose
# lock is kept; $6: the key of the marks.
FOLD: Final = """
with s as (
    select currency, max(id) filter (where kind = 'holds') as holds,
           max(id) filter (where kind = 'revenue') as revenue,
           max(id) filter (where kind = 'funding') as funding,
           max(id) filter (where kind = 'adjustments') as adjustments
    from ledger.accounts where kind <> 'client' group by currency
), a as (
    select a.id, a.version as last, a.posted_micros, a.held_micros, a.chain_head, s.*
    from ledger.accounts a left join s on s.currency = a.currency
    where a.kind = 'client' and a.id between $1 and $2
), e as (
    select e.*, lag(e.version) over w as p_version, lag(e.hash) over w as p_hash, lag(e.at) over w as p_at,
           lag(e.posted_after_micros) over w as p_posted, lag(e.held_after_micros) over w as p_held
    from ledger.entries e
    where e.account_id between $1 and $2 and e.version between $3 and $4
    window w as (partition by e.account_id order by e.version)
), b as (
    select e.*, a.id as client, a.last, a.posted_micros, a.held_micros, a.chain_head,
           a.holds, a.revenue, a.funding, a.adjustments,
           coalesce(e.p_version, c.version, 0) as b_version,
           coalesce(e.p_posted, c.posted_micros, case when e.version = 1 then 0 end) as b_posted,
           coalesce(e.p_held, c.held_micros, case when e.version = 1 then 0 end) as b_held,
           coalesce(e.p_hash, c.chain_head,
                    case when e.version = 1 then decode(repeat('00', 32), 'hex') end) as b_hash,
           case e.kind when 'top_up' then e.amount_micros when 'hold' then 0 when 'release' then 0
                       when 'adjustment' then case when e.credit_account = e.account_id then 1 else -1 end
                                              * e.amount_micros
                       else -e.amount_micros end as d_posted,
           case e.kind when 'hold' then e.amount_micros when 'capture' then -e.amount_micros
                       when 'release' then -e.amount_micros else 0 end as d_held,
           case when e.message_id >= $5 then hashint8extended(e.amount_micros,
               uuid_hash_extended(e.message_id,
                                  $6 + case e.kind when 'hold' then e.version else 0 end)) end
               as mark
    from e
    left join a on a.id = e.account_id
    left join lateral (
        select k.version, k.posted_micros, k.held_micros, k.chain_head from ledger.checkpoints k
        where e.p_version is null and e.version > 1
          and k.account_id = e.account_id and k.version = e.version - 1 limit 1) c on true
    where e.version > $3
), f as (
    select b.*,
           b.version <> b.b_version + 1 as version_gap,
           b.posted_after_micros <> b.b_posted + b.d_posted or b.held_after_micros <> b.b_held + b.d_held
               as running_balance,
           b.hash <> ledger.entry_hash_v1(b.b_hash, b.account_id, b.version,
               (extract(epoch from b.at) * 1000000)::bigint, b.kind, b.message_id, b.debit_account,
               b.credit_account, b.amount_micros, b.posted_after_micros, b.held_after_micros, b.reference,
               b.reason) as chain_broken,
           not coalesce(case b.kind
               when 'hold' then b.debit_account = b.client and b.credit_account = b.holds
               when 'capture' then b.debit_account = b.holds and b.credit_account = b.revenue
               when 'release' then b.debit_account = b.holds and b.credit_account = b.client
               when 'late_capture' then b.debit_account = b.client and b.credit_account = b.revenue
               when 'top_up' then b.debit_account = b.funding and b.credit_account = b.client
               else b.debit_account = b.client and b.credit_account = b.adjustments
                    or b.debit_account = b.adjustments and b.credit_account = b.client end
               and (b.message_id is null) = (b.kind in ('top_up', 'adjustment')), false) as entry_shape,
           b.at < b.p_at as time_backwards,
           b.version = b.last and (b.posted_after_micros <> b.posted_micros
               or b.held_after_micros <> b.held_micros or b.hash <> b.chain_head) as account_differs,
           b.kind in ('top_up', 'adjustment') and not exists (
               select from ledger.operations o
               where o.account_id = b.account_id and o.reference = b.reference and o.entry_version = b.version
                 and o.kind = b.kind::text and o.amount_micros = b.d_posted) as entry_without_operation
    from b
)
select account_id, count(*), max(version),
       sum(case when credit_account = account_id then amount_micros when debit_account = account_id
                then -amount_micros else 0 end)::bigint,
       sum(case when credit_account = holds then amount_micros when debit_account = holds
                then -amount_micros else 0 end)::bigint,
       sum(case when credit_account = revenue then amount_micros else 0 end)::bigint,
       sum(case when debit_account = funding then -amount_micros else 0 end)::bigint,
       sum(case when credit_account = adjustments then amount_micros when debit_account = adjustments
                then -amount_micros else 0 end)::bigint,
       coalesce(sum(b_posted) filter (where p_version is null), 0)::bigint,
       coalesce(sum(b_held) filter (where p_version is null), 0)::bigint,
       coalesce(sum(mark) filter (where kind = 'hold'), 0)::text,
       coalesce(sum(mark) filter (where kind = 'capture'), 0)::text,
       coalesce(sum(mark) filter (where kind = 'release'), 0)::text,
       coalesce(sum(mark) filter (where kind = 'late_capture'), 0)::text,
       array_agg(version || ' ' || concat_ws(' ', case when version_gap then 'version_gap' end,
           case when running_balance then 'running_balance' end,
           case when chain_broken then 'chain_broken' end,
           case when entry_shape then 'entry_shape' end, case when time_backwards then 'time_backwards' end,
           case when account_differs then 'account_differs' end,
           case when entry_without_operation then 'entry_without_operation' end) order by version)
           filter (where version_gap or running_balance or chain_broken or entry_shape or time_backwards
                      or account_differs or entry_without_operation)
from f group by account_id
"""


async def fold_entries(
    conn: Connection, span: Span, first_message: UUID, key: int
) -> tuple[list[Fold], list[Finding]]:
    """Return what each account's entries add up to, and every entry that does not follow from the last."""
    folds: list[Fold] = []
    findings: list[Finding] = []
    args = (span.low, span.high, span.after, span.up_to, first_message, key)
    for row in await conn.fetch(FOLD, *args):
        *sums, hold, capture, release, late, faults = row
        marks = {"hold_mark": int(hold), "capture_mark": int(capture)}
        marks |= {"release_mark": int(release), "late_mark": int(late)}
        folds.append(Fold(*sums, **marks))
        for fault in faults or ():
            findings += _named(row[0], fault)
    return folds, findings


def _named(account_id: int, fault: str) -> list[Finding]:
    version, *checks = fault.split()
    return [Finding(check, f"entry {version}: {WORDS[check]}", account_id) for check in checks]


def added(one: Fold, other: Fold) -> Fold:
    """Put two spans of one account together; only the one that begins at the base has a base."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in Fold.__slots__}
    sums |= {"account_id": one.account_id, "last_version": max(one.last_version, other.last_version)}
    return Fold(**sums)


ENTRIES_AND_LOCKS: Final = """
select e.account_id, e.version, e.message_id, case
        when l.message_id is null then 'entry_without_lock'
        when l.account_id <> e.account_id or l.amount_micros <> e.amount_micros then 'lock_differs'
        when e.kind = 'hold' and l.hold_version <> e.version then 'second_hold'
        when e.kind in ('capture', 'release') and l.resolved_at is distinct from e.at then 'second_resolution'
        when e.kind in ('capture', 'release') then 'resolution_differs'
        when e.kind = 'late_capture' then 'late_capture_differs' end
from ledger.entries e
left join ledger.credit_locks l on l.message_id = e.message_id
where e.account_id = any ($1) and e.version > $2 and e.version <= $3 and e.message_id >= $4
  and not coalesce(l.account_id = e.account_id and l.amount_micros = e.amount_micros and case e.kind
        when 'hold' then l.hold_version = e.version
        when 'capture' then l.state = 'CAPTURED' and l.resolved_at = e.at
        when 'release' then l.state = 'RELEASED' and l.resolved_at = e.at
        else l.late_captured_at = e.at end, false)
order by 1, 2
"""
ENTRY_WORDS: Final = {
    "entry_without_lock": "there is no lock of this message",
    "lock_differs": "the lock has another amount or account",
    "second_hold": "the lock was placed by another entry",
    "second_resolution": "the lock was not resolved by this entry",
    "resolution_differs": "the lock was resolved otherwise",
    "late_capture_differs": "the lock was not captured late by this entry",
}


async def compare_entries(
    conn: Connection, accounts: Sequence[int], first_message: UUID, *, after: int = 0, up_to: int = 2**62
) -> list[Finding]:
    """Compare each entry of these accounts with its message's lock."""
    rows = await conn.fetch(ENTRIES_AND_LOCKS, accounts, after, up_to, first_message)
    return [
        Finding(check, f"entry {version}: {ENTRY_WORDS[check]}", account, message)
        for account, version, message, check in rows
    ]
