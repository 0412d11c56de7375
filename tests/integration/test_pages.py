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
from api.callback_schemas import Try
from api.cursors import FIRST_ID, LAST_ID
from api.reads import EntryFilter, MessageFilter
from api.routing import encode
from dlr.records import ANSWER_KEPT_BYTES
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


KEEP_TRIES = """
    insert into tollwire.callback_attempts (callback_id, attempt_no, at, answer_head)
    select $1::uuid, n, now(), n::text::bytea from generate_series(1, $2::integer) n
"""


async def test_a_page_of_the_callbacks_log_ends_where_its_tries_are_too_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_reads, "TRIES_MAX", 4)
    monkeypatch.setattr(callback_reads, "PAGE_TRIES_MAX", 5)
    async with open_flow(database) as flow:
        client = await flow.client()
        await flow.endpoint(client)
        tries = [2, 3, 0, 1, 0, 4, 9, 1]  # from the newest callback on
        for _ in tries:
            await flow.pool.execute("select tollwire.test_callback_v1($1)", client)
        ids = [row[0] for row in await flow.pool.fetch("select id from tollwire.callbacks order by id desc")]
        await flow.pool.executemany(KEEP_TRIES, list(zip(ids, tries, strict=True)))
        log, before = [], LAST_ID
        while True:
            narrow = CallbackFilter(before, None, None)
            rows, reached = await callback_reads.list_callbacks(flow.pool, client, narrow, 100)
            log.append(rows)
            if reached is None:
                break
            before = reached
    shown = [[[one["attempt_no"] for one in row.tries] for row in page] for page in log]
    assert shown == [[[1, 2], [1, 2, 3], []], [[1], [], [1, 2, 3, 4]], [[6, 7, 8, 9], [1]]]
    assert [row.callback["id"] for page in log for row in page] == ids


def test_the_longest_page_of_the_callbacks_log_is_some_megabytes() -> None:
    """Four at once are what one client reads in a process, which has 768 MiB."""
    at, address = "2026-01-01T00:00:00.000000Z", "2001:db8:1111:2222:3333:4444:5555:6666"
    one = encode(Try(32_767, at, 599, "\x01" * 200, 15_000, address, "\x01" * ANSWER_KEPT_BYTES))
    assert callback_reads.PAGE_TRIES_MAX * len(one) < 8 * 1024 * 1024
    assert callback_reads.TRIES_MAX < callback_reads.PAGE_TRIES_MAX


async def test_a_statement_ends_where_its_entries_were_dropped(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client(0)
        narrow = EntryFilter(6 * reads.SCAN_MAX, None, None, None)
        assert await reads.list_entries(flow.pool, client, narrow, 100) == ([], None)
