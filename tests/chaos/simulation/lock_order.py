"""One lock order everywhere (RULES 3), read from the functions as they are installed.

A deadlock needs two backends and bad luck, which no seed gives; the order in which a function's text takes
its locks is there to read. tests/integration/test_concurrent_functions.py lets pairs of them really meet.
"""

import re
from typing import Final

from shared.runtime.postgres import Pool

ORDER: Final = ("message_states", "credit_locks", "outbox", "receipts", "accounts", "callbacks")
FUNCTIONS: Final = """
select p.proname, p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('ledger', 'tollwire') and p.prosrc ~ 'for update' order by p.proname
"""
_TABLE: Final = re.compile(r"\bfrom (?:ledger|tollwire)\.(\w+)")
_WHICH: Final = re.compile(r"\bin \(select[^()]*(?:\([^()]*\)[^()]*)*\)")
_ONE_ROW: Final = re.compile(r"where id = p_account\b")


def faults_of(name: str, text: str) -> list[str]:
    """What is wrong with a function's locks."""
    taken: list[str] = []
    found = []
    for statement in text.split(";"):
        before, is_lock, after = statement.partition("for update")
        tables = _TABLE.findall(_WHICH.sub("", before))
        # Who skips what is locked waits for nobody.
        if not is_lock or "skip locked" in after or not tables or tables[-1] not in ORDER:
            continue
        if "order by" not in before and not _ONE_ROW.search(before):
            found.append(f"{name} locks {tables[-1]} in no order")
        if taken and ORDER.index(tables[-1]) < ORDER.index(taken[-1]):
            found.append(f"{name} locks {tables[-1]} after {taken[-1]}")
        taken.append(tables[-1])
    return found


async def faults(pool: Pool) -> list[str]:
    """What is wrong in a database."""
    return [fault for name, text in await pool.fetch(FUNCTIONS) for fault in faults_of(name, text)]
