"""The journal against itself: versions, running balances, chain, shape; some days of some accounts a pass.

A pass reads the days' pages in their own order and sorts them once, whatever the number of accounts.
What follows from the entry before is compared inside the pass; an account's first entry of a pass is handed
out, and ledger/verify_chain.py joins it to the pass before.

What can only be wrong for many rows together is answered as sums for each account, among them marks
(verify_marks), which are compared with those of locks and operations.
"""

from typing import Final, NamedTuple
from uuid import UUID

from ledger import verify_marks as marks
from ledger.verify_entries import IS_MISSHAPEN, SYSTEM_ACCOUNTS
from ledger.verify_span import Span
from shared.runtime.postgres import Connection


class Pass(NamedTuple):
    """What one account's entries of a span add up to; micros, and marks (see above).

    ``others_net`` is what all system accounts have of them, ``holds_net`` the one of holds alone. ``first``
    is the first entry's hash and all that is hashed but the hash before it, ``last`` the state that the last
    entry left (both as verify_chain reads them); ``faults`` what does not follow inside the pass, as
    ``version check check,…``.
    """

    account_id: int
    client_net: int
    holds_net: int
    others_net: int
    mark: int
    operation_mark: int
    is_misshapen: bool
    first: bytes
    last: bytes
    faults: str | None


# What is hashed of an entry after the hash before it: ledger/functions/entry_hash_v1.sql and ledger/chain.py
# say the same. Written for speed: the years between the two epochs, added to a time, make PostgreSQL's own
# bytes of it those of µs since 1970, without a numeric; and a text's bytes are sent as they are, in UTF-8.
HASHED: Final = """
    int8send(e.account_id) || int8send(e.version) || timestamptz_send(e.at + interval '946684800 seconds')
    || case e.kind when 'hold' then '\\x00000002'::bytea when 'capture' then '\\x00000003'
                   when 'release' then '\\x00000004' when 'top_up' then '\\x00000001'
                   when 'adjustment' then '\\x00000005' when 'late_capture' then '\\x00000006' end
    || case when e.message_id is null then '\\x00000000000000000000000000000000'::bytea
            else uuid_send(e.message_id) end
    || int8send(e.debit_account) || int8send(e.credit_account) || int8send(e.amount_micros)
    || int8send(e.posted_after_micros) || int8send(e.held_after_micros)
    || case when e.reference is null then '\\xffffffff'::bytea
            else int4send(octet_length(e.reference)) || textsend(e.reference) end
    || case when e.reason is null then '\\xffffffff'::bytea
            else int4send(octet_length(e.reason)) || textsend(e.reason) end
"""
LEFT: Final = """
    e.hash || int8send(e.version) || timestamptz_send(e.at + interval '946684800 seconds')
    || int8send(e.posted_after_micros) || int8send(e.held_after_micros)
"""
# A null, where there is no entry before, is no fault.
FAULTS: Final = {
    "version_gap": "e.version <> e.p_version + 1",
    "running_balance": """
        (e.posted_after_micros <> e.p_posted + case e.kind when 'hold' then 0 when 'release' then 0
             when 'top_up' then e.amount_micros
             when 'adjustment' then case when e.credit_account = e.account_id then e.amount_micros
                                         else -e.amount_micros end
             else -e.amount_micros end
         or e.held_after_micros <> e.p_held + case e.kind when 'hold' then e.amount_micros
             when 'capture' then -e.amount_micros when 'release' then -e.amount_micros else 0 end)""",
    "time_backwards": "e.at < e.p_at",
    "chain_broken": "e.hash <> sha256('\\x01'::bytea || e.p_hash || {hashed})",
}
# $1, $2: days; $3, $4: accounts; $5, $6: versions; $7: the first message whose lock is kept; $8: the key.
FOLD: Final = """
with e as (
    select e.account_id, e.version, e.at, e.kind, e.message_id, e.debit_account, e.credit_account,
           e.amount_micros, e.posted_after_micros, e.held_after_micros, e.reference, e.reason, e.hash,
           lag(e.version) over w as p_version, lag(e.hash) over w as p_hash, lag(e.at) over w as p_at,
           lag(e.posted_after_micros) over w as p_posted, lag(e.held_after_micros) over w as p_held,
           lead(e.version) over w as n_version
    from ledger.entries e
    where e.day >= $1 and e.day < $2 and e.account_id between $3 and $4 and e.version > $5 and e.version <= $6
    window w as (partition by e.account_id order by e.version)
), g as (
    select e.account_id, e.kind, e.debit_account, e.credit_account,
           e.message_id is null as is_bare, sum(e.amount_micros) as micros,
           sum(case when e.kind in ('top_up', 'adjustment') then {operation_mark}
                    when e.message_id >= $7 then {mark} end) as mark,
           string_agg(e.hash || {hashed}, '') filter (where e.p_version is null) as first,
           string_agg({left}, '') filter (where e.n_version is null) as last,
           string_agg(e.version || ' ' || concat_ws(' ', {words}), ',') filter (where {any}) as faults
    from e group by 1, 2, 3, 4, 5
), s as ({system})
select e.account_id, {nets}, {marks}, bool_or({misshapen}),
       string_agg(e.first, ''), string_agg(e.last, ''), string_agg(e.faults, ',')
from g e
left join ledger.accounts a on a.id = e.account_id and a.kind = 'client'
left join s on s.currency = a.currency
group by e.account_id
"""
# In the order of Pass.
SIDES: Final = ("e.account_id", "s.holds", "s.holds, s.revenue, s.funding, s.adjustments")
NET: Final = """
    coalesce(sum(case when e.credit_account in ({sides}) then e.micros else 0 end
                 - case when e.debit_account in ({sides}) then e.micros else 0 end), 0)::bigint"""
ARE_ASKED_FOR: Final = ("not in", "in")
MARK: Final = """
    (coalesce(sum(e.mark) filter (where e.kind {are} ('top_up', 'adjustment')), 0) % {modulus})::bigint"""
QUERY: Final = (
    FOLD.replace("{nets}", ", ".join(NET.replace("{sides}", sides) for sides in SIDES))
    .replace("{marks}", ", ".join(MARK.replace("{are}", are) for are in ARE_ASKED_FOR))
    .replace("{mark}", marks.OF_ENTRY)
    .replace("{operation_mark}", marks.OF_CREDIT)
    .replace("{modulus}", str(marks.MODULUS))
    .replace("{key}", "$8")
    .replace("{words}", ", ".join(f"case when {fault} then '{word}' end" for word, fault in FAULTS.items()))
    .replace("{any}", " or ".join(FAULTS.values()))
    .replace("{system}", SYSTEM_ACCOUNTS)
    .replace("{misshapen}", IS_MISSHAPEN)
    .replace("{hashed}", HASHED)
    .replace("{left}", LEFT)
)


async def fold_entries(conn: Connection, span: Span, first_message: UUID, key: int) -> list[Pass]:
    """Return what each account's entries of the span add up to, and which do not follow from the last."""
    args = (span.from_day, span.to_day, span.low, span.high, span.after, span.up_to, first_message, key)
    return [Pass(*row) for row in await conn.fetch(QUERY, *args)]
