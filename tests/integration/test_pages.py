"""Pages of lists go on where they stopped, whatever commits meanwhile and whatever was dropped."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from api import callback_reads, reads
from api.callback_reads import CallbackFilter
from api.cursors import FIRST_ID, LAST_ID
from api.reads import EntryFilter, MessageFilter
from shared.runtime.postgres import Pool
from tests.support.flow import open_flow
from tests.support.servers import Database

MOVE = "update tollwire.messages set created_at = $2 where id = any ($1::uuid[])"
SCANNED = 20
BETWEEN = 10


class Overtaken(asyncpg.Connection):
    """A connection after each of whose lists others commit."""

    commit: Callable[[], Awaitable[object]]

    async def fetch(self, *args: Any, **options: Any) -> Any:
        rows = await super().fetch(*args, **options)
        await type(self).commit()
        return rows


@asynccontextmanager
async def overtaken(database: Database, commit: Callable[[], Awaitable[object]]) -> AsyncIterator[Pool]:
    connections = type("Connections", (Overtaken,), {"commit": staticmethod(commit)})
    async with asyncpg.create_pool(
        database.dsn(), min_size=1, max_size=1, connection_class=connections
    ) as pool:
        yield pool


async def test_a_filtered_page_repeats_no_message_that_was_looked_at_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SCAN_MAX", SCANNED)
    async with open_flow(database) as flow:
        client = await flow.client()
        ids = await flow.accepted(client, 2 * SCANNED + BETWEEN)

        async def commit() -> None:
            await flow.accepted(client, BETWEEN)

        async with overtaken(database, commit) as pool:
            seen, before = [], LAST_ID
            while True:
                narrow = MessageFilter("QUEUED", None, None, None, FIRST_ID, before)
                rows, reached = await reads.list_messages(
                    pool, client, narrow, SCANNED + 1, newest_first=True
                )
                seen += [row["id"] for row in rows]
                if reached is None:
                    break
                before = reached
    assert seen == ids[::-1]


async def pages(pool: Pool, client: int, narrow: MessageFilter, *, newest_first: bool) -> list[list[UUID]]:
    """The ids of each page of a list, to its end."""
    found = []
    while True:
        rows, reached = await reads.list_messages(pool, client, narrow, SCANNED, newest_first=newest_first)
        found.append([row["id"] for row in rows])
        if reached is None:
            return found
        after = UUID(int=reached.int + 1)
        narrow = narrow._replace(before_id=reached) if newest_first else narrow._replace(from_id=after)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("is_since", [True, False])
async def test_what_ids_let_in_and_times_leave_out_makes_no_empty_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch, newest_first: bool, is_since: bool
) -> None:
    monkeypatch.setattr(reads, "SCAN_MAX", SCANNED)
    async with open_flow(database) as flow:
        client = await flow.client()
        ids = await flow.accepted(client, 5 * SCANNED)
        # Two that the times let in, far apart among those that they leave out.
        wanted = [ids[-1], ids[SCANNED + 5]] if is_since else [ids[3 * SCANNED], ids[0]]
        border = await flow.pool.fetchval("select max(created_at) + interval '1 s' from tollwire.messages")
        if not is_since:
            border -= timedelta(seconds=10)
        await flow.pool.execute(MOVE, wanted, border if is_since else border - timedelta(seconds=1))
        narrow = MessageFilter("QUEUED", None, None, None, FIRST_ID, LAST_ID)
        narrow = narrow._replace(since=border) if is_since else narrow._replace(until=border)
        found = await pages(flow.pool, client, narrow, newest_first=newest_first)
    assert [id_ for page in found for id_ in page] == (wanted if newest_first else wanted[::-1])
    assert found.count([]) <= (not newest_first), "who follows a list asks again anyway"


async def test_a_page_looks_at_so_many_that_its_times_leave_out_and_says_where_to_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SCAN_MAX", 5)
    monkeypatch.setattr(reads, "SKIP_MAX", SCANNED)
    async with open_flow(database) as flow:
        client = await flow.client()
        first, *_ = await flow.accepted(client, 5 * SCANNED)
        since = await flow.pool.fetchval("select max(created_at) + interval '1 s' from tollwire.messages")
        await flow.pool.execute(MOVE, [first], since)
        narrow = MessageFilter(None, None, None, None, FIRST_ID, LAST_ID, since)
        found = await pages(flow.pool, client, narrow, newest_first=True)
    assert found == [[]] * 4 + [[first]]


async def test_a_page_of_the_callbacks_log_repeats_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_reads, "SCAN_MAX", SCANNED)
    async with open_flow(database) as flow:
        client = await flow.client()
        await flow.endpoint(client)

        async def commit(number: int = BETWEEN) -> None:
            for _ in range(number):
                await flow.pool.execute("select tollwire.test_callback_v1($1)", client)

        await commit(2 * SCANNED)
        ids = [row[0] for row in await flow.pool.fetch("select id from tollwire.callbacks order by id desc")]
        async with overtaken(database, commit) as pool:
            seen, before = [], LAST_ID
            while True:
                rows, reached = await callback_reads.list_callbacks(
                    pool, client, CallbackFilter(before, None, "waiting"), SCANNED + 1
                )
                seen += [row.callback["id"] for row in rows]
                if reached is None:
                    break
                before = reached
    assert seen == ids


async def test_a_statement_ends_where_its_entries_were_dropped(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(0)
        narrow = EntryFilter(6 * reads.SCAN_MAX, None, None, None)
        assert await reads.list_entries(flow.pool, client, narrow, 100) == ([], None)
