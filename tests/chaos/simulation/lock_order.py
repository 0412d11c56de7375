"""One lock order everywhere (RULES 3, docs/adr/0020), read from the functions as they are installed.

A deadlock needs two backends and bad luck, which no seed gives; the order in which a function's text takes
its locks is there to read. tests/integration/test_concurrent_functions.py lets pairs of them really meet.
"""

import re
from typing import Final

from shared.runtime.postgres import Pool

ORDER: Final = ("message_states", "credit_locks", "outbox", "receipts", "accounts", "callbacks")
FUNCTIONS: Final = """
select p.proname, p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('ledger', 'tollwire') and p.prosrc ~ 'for update|_v1[(]' order by p.proname
"""
_TABLE: Final = re.compile(r"\bfrom (?:ledger|tollwire)\.(\w+)")
_WHICH: Final = re.compile(r"\bin \(select[^()]*(?:\([^()]*\)[^()]*)*\)")
_ONE_ROW: Final = re.compile(r"where id = p_account\b")
# One row after the other, as a loop in their order comes to them.
_EACH_ROW: Final = re.compile(r"where t\.id = r\.account_id\b")
_LOOP: Final = re.compile(r"(?<!end )\bloop\b")
_IN_ORDER: Final = re.compile(r"order by p_account\[n\], n\s*$")
# These lock the accounts of what they are given. Who calls two of them, or one of the last three, locks all
# of them before.
_MOVES_MONEY: Final = re.compile(
    r"\b(?:settle_holds|finish|give_back_places|record_batch|record_rest|settle_rest)_v1\("
)
_MOVES_TWICE: Final = re.compile(r"\b(?:record_batch|record_rest|settle_rest)_v1\(")
LOCKED_BY_CALLERS: Final = ("record_rest_v1", "settle_rest_v1")
# Who records, and what it records there: a submit of unknown outcome captures and releases nothing.
MOVES_NONE: Final = {"recover_claims_v1": "array_fill('uncertain'::tollwire.attempt_outcome"}


def faults_of(name: str, text: str) -> list[str]:
    """What is wrong with a function's locks."""
    taken: list[str] = []
    found = []
    steps = 0
    head = ""  # of the loop that began last
    for statement in text.split(";"):
        before, is_lock, after = statement.partition("for update")
        tables = _TABLE.findall(_WHICH.sub("", before))
        head = next((statement[: one.start()] for one in reversed([*_LOOP.finditer(statement)])), head)
        if moves := _moves(name, statement):
            steps += moves
            is_bare = "accounts" not in taken and name not in LOCKED_BY_CALLERS
            if is_bare and steps > 1:
                found.append(f"{name} moves money in steps and has not locked all accounts before")
        # Who skips what is locked waits for nobody.
        if not is_lock or "skip locked" in after or not tables or tables[-1] not in ORDER:
            continue
        if steps and tables[-1] != "callbacks":
            found.append(f"{name} locks {tables[-1]} after it has moved money")
        is_each_in_order = _EACH_ROW.search(before) and _IN_ORDER.search(head)
        if "order by" not in before and not _ONE_ROW.search(before) and not is_each_in_order:
            found.append(f"{name} locks {tables[-1]} in no order")
        if taken and ORDER.index(tables[-1]) < ORDER.index(taken[-1]):
            found.append(f"{name} locks {tables[-1]} after {taken[-1]}")
        taken.append(tables[-1])
    return found


def _moves(name: str, statement: str) -> int:
    """In how many steps a statement moves money, at most."""
    if name in MOVES_NONE and MOVES_NONE[name] in statement:
        return 0
    return len(_MOVES_MONEY.findall(statement)) + len(_MOVES_TWICE.findall(statement))


async def faults(pool: Pool) -> list[str]:
    """What is wrong in a database."""
    return [fault for name, text in await pool.fetch(FUNCTIONS) for fault in faults_of(name, text)]
