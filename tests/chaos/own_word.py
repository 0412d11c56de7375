"""What Tollwire says of a run, asked when the verdict from the independent logs stands."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import aiohttp
import asyncpg

from embedded.postgres import PostgresServer
from tests.chaos.instance import Instance
from tests.chaos.processes import environ_of_ours
from tests.chaos.scene import Account
from tests.chaos.verdict import OwnWord

PAGE = 1000
VERIFY_SECONDS = 120.0
SAID_MAX_CHARS = 2_000
OPEN_ROWS = {
    "outbox": "select count(*) from tollwire.outbox",
    "holds": "select coalesce(sum(open_holds), 0)::bigint from ledger.accounts",
    "callbacks": """
        select count(*) from tollwire.callbacks b join tollwire.clients c on c.id = b.client_id
        where b.done_at is null and c.name <> all ($1::text[])
    """,
}

# What a run that will not end waits for, some of each, with everything that says why.
WAITING = """
    (select jsonb_build_object('now', clock_timestamp()::time, 'outbox', o, 'state', s,
            'tries', (select jsonb_agg(jsonb_build_array(a.attempt_no, a.outcome, a.receipt, a.error_code)
                      order by a.attempt_no) from tollwire.attempts a where a.message_id = o.message_id))
     from tollwire.outbox o join tollwire.message_states s using (message_id) order by o.due_at desc limit 3)
    union all
    (select jsonb_build_object('now', clock_timestamp()::time, 'sent', s) from tollwire.message_states s
     where s.final_at is null
        and not exists (select from tollwire.outbox o where o.message_id = s.message_id) limit 3)
    union all
    (select jsonb_build_object('now', clock_timestamp()::time, 'callback', b,
            'tries', (select jsonb_agg(t) from tollwire.callback_attempts t where t.callback_id = b.id))
     from tollwire.callbacks b join tollwire.clients c on c.id = b.client_id
     where b.done_at is null and c.name <> all ($1::text[]) order by b.due_at desc limit 3)
"""


async def ask_tollwire(instance: Instance, accounts: Sequence[Account]) -> OwnWord:
    """Ask the API for every message and every entry, and the command line for the books."""
    statuses: dict[str, str] = {}
    entries: dict[str, list[str]] = defaultdict(list)
    async with aiohttp.ClientSession(instance.api_urls[0]) as session:
        for account in accounts:
            for message in await _pages(session, account, "/v1/messages", "messages"):
                statuses[message["id"]] = message["status"]
            for entry in await _pages(session, account, "/v1/ledger", "entries"):
                if entry["message_id"] is not None:
                    entries[entry["message_id"]].append(entry["kind"])
    return OwnWord(
        statuses=statuses,
        entries=entries,
        verify_findings=await verify(instance),
        deadlocks=sum(
            keeper.unit.child.log.read_text(errors="replace").count("deadlock detected")
            for keeper in instance.keepers.values()
            if isinstance(keeper.unit, PostgresServer)
        ),
        open_rows=await open_rows(instance, [account.name for account in accounts if account.is_hostile]),
    )


async def _pages(session: aiohttp.ClientSession, account: Account, path: str, name: str) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        async with session.get(path, params=params, headers={"X-API-Key": account.key}) as answer:
            page = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {page}")
        found += page[name]
        cursor = page["next_cursor"]
    return found


async def verify(instance: Instance) -> str:
    """Run `tollwire ledger verify --full`; what it finds, empty when the books are whole."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "ledger", "verify", "--full", "--dsn", instance.dsn("postgres"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=instance.folder, env=environ_of_ours(),
    )  # fmt: skip
    async with asyncio.timeout(VERIFY_SECONDS):
        said, _ = await process.communicate()
    return "" if process.returncode == 0 else said.decode(errors="replace")[:SAID_MAX_CHARS]


# The walk over holds stays ten minutes behind the clock, longer than a run: what it would find is named.
WATCH_SILENT = """
    insert into tollwire.hold_watch (message_id, due_at)
    select s.message_id, clock_timestamp() from tollwire.message_states s
    join tollwire.carriers k on k.id = s.carrier_id
    where s.state = 'SENT'
        and s.submitted_at + k.no_receipt_seconds * interval '1 second' <= clock_timestamp()
    on conflict do nothing
"""


# What was leased to a process that is gone, or may be in a stream, is looked at as if its lease had ended.
# A row that somebody holds is left to him: to wait for it could end in a deadlock of the harness's making.
END_LEASES = (
    """
    with ended as (select message_id from tollwire.outbox
                   where leased_at < clock_timestamp() - interval '10 seconds'
                   order by message_id for update skip locked)
    update tollwire.outbox o set due_at = clock_timestamp(), incarnation = 0 from ended
    where o.message_id = ended.message_id
    """,
    """
    with ended as (select id from tollwire.callbacks where done_at is null and attempts = 0
                   order by id for update skip locked)
    update tollwire.callbacks c set due_at = clock_timestamp() from ended where c.id = ended.id
    """,
)


async def let_the_walk_come(instance: Instance) -> None:
    """Have the ledger look at messages whose receipt has not come in time, as it does ten minutes later."""
    await _execute(instance, (WATCH_SILENT,))


async def end_leases(instance: Instance) -> None:
    """Have everything that waits for the end of a lease looked at now, as it is minutes later."""
    await _execute(instance, END_LEASES)


async def _execute(instance: Instance, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(instance.dsn("postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def what_waits(instance: Instance, hostile: Sequence[str]) -> list[str]:
    """Some of the rows that still wait for something, whole, as JSON."""
    connection = await asyncpg.connect(instance.dsn("postgres"))
    try:
        return [str(row[0]) for row in await connection.fetch(WAITING, list(hostile))]
    finally:
        await connection.close()


async def open_rows(instance: Instance, hostile: Sequence[str]) -> dict[str, int]:
    """How many rows still wait for something, by what; callbacks that nobody takes may wait."""
    connection = await asyncpg.connect(instance.dsn("postgres"))
    try:
        arguments = {"callbacks": [list(hostile)]}
        return {
            name: int(await connection.fetchval(sql, *arguments.get(name, [])))
            for name, sql in OPEN_ROWS.items()
        }
    finally:
        await connection.close()
