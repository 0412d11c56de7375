"""What was asked for by name (top-ups, adjustments, limits) against journal and accounts (RULES 25)."""

from datetime import date
from typing import Final

from ledger import verify_marks as marks
from ledger.findings import Finding
from ledger.verify_span import FIRST, LAST
from shared.runtime.postgres import Connection

# An operation whose entry's day was archived is not looked for; an account that lost its entry still is.
MARKS: Final = """
select account_id, (coalesce(sum({mark}), 0) % {modulus})::bigint
from ledger.operations
where kind <> 'credit_limit' and (at at time zone 'UTC')::date >= $1
group by account_id
"""
QUERY: Final = (
    MARKS.replace("{mark}", marks.OF_OPERATION)
    .replace("{modulus}", str(marks.MODULUS))
    .replace("{key}", "$2::bigint")
)


async def operation_marks(conn: Connection, since: date, key: int) -> dict[int, int]:
    """Return the marks of the operations since a day, by account."""
    return {account: mark for account, mark in await conn.fetch(QUERY, since, key)}  # noqa: C416 - records


LIMITS: Final = """
select a.id from ledger.accounts a
where a.kind = 'client' and a.id between $1 and $2 and not case
    when exists (select from ledger.operations o where o.account_id = a.id and o.kind = 'credit_limit')
    then exists (
        select from ledger.operations o
        where o.account_id = a.id and o.credit_limit_after_micros = a.credit_limit_micros
          and o.at = (select max(p.at) from ledger.operations p where p.account_id = a.id))
    else a.credit_limit_micros = 0 end
order by 1
"""


# What was asked for is what came of it; no entry has it, so nothing else would tell.
LIMITS_ASKED: Final = """
select account_id, reference from ledger.operations
where kind = 'credit_limit' and amount_micros <> credit_limit_after_micros and account_id between $1 and $2
order by 1, 2
"""


async def check_limits(conn: Connection, low: int = FIRST, high: int = LAST) -> list[Finding]:
    """Each credit limit of accounts [low, high] is what the newest operation on it left, and asked for."""
    text = "no operation set this credit limit"
    rows = await conn.fetch(LIMITS, low, high)
    findings = [Finding("credit_limit_differs", text, account) for (account,) in rows]
    for account, reference in await conn.fetch(LIMITS_ASKED, low, high):
        text = f"the operation {reference} asked for another credit limit than it left"
        findings.append(Finding("operation_differs", text, account))
    return findings
