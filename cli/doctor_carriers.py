"""The carriers: which are stopped by hand, and which numbers nobody carries meanwhile."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from cli.doctor_findings import Finding, note, ok, warning
from shared.runtime.postgres import Connection

# Of a long list a few show what kind of list it is.
NAMES_SHOWN_MAX: Final = 5
STOPPED: Final = "select name from tollwire.carriers where not enabled order by name"
STARTED: Final = "select count(*) from tollwire.carriers where enabled"
# The longest prefix of a number decides: a shorter one carries nothing for it.
WITHOUT: Final = """
    select r.prefix from tollwire.routes r join tollwire.carriers c on c.id = r.carrier_id
    group by r.prefix having not bool_or(c.enabled) order by r.prefix
"""


async def check_carriers(connection: Connection) -> list[Finding]:
    """Look which carriers are stopped, and whether another one carries their numbers."""
    try:
        stopped = [str(row[0]) for row in await connection.fetch(STOPPED)]
        without = [str(row[0]) for row in await connection.fetch(WITHOUT)]
        started: int = await connection.fetchval(STARTED)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return []  # no schema, which is said already, or a role that may not look
    if not stopped:
        return [ok("carriers", f"{started:,} started, none stopped")] if started else []
    start = f"`tollwire carrier start {stopped[0]}` starts one."
    if without or not started:
        numbers = f" for {_numbers(without)}" if started else ""
        text = f"every carrier{numbers} is stopped: {_shown(stopped)}"
        return [warning("carriers", text, f"Messages wait, and expire in the end. {start}")]
    return [note("carriers", f"stopped: {_shown(stopped)}; every prefix has another carrier", start)]


def _numbers(prefixes: Sequence[str]) -> str:
    named = [prefix for prefix in prefixes if prefix]
    others = "all numbers without a longer prefix" if "" in prefixes else ""
    begun = f"numbers that begin with {_shown(named)}" if named else ""
    return " and ".join(filter(None, (others, begun)))


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN_MAX:,} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(names[:NAMES_SHOWN_MAX]) + more
