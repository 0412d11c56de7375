"""What a process gives back is nobody's lease but its own (docs/adr/0016)."""

import asyncio
from uuid import UUID

from dlr import records, store
from dlr.put_offs import LEASE_LEFT_SECONDS, PutOffs
from dlr.store import CallbackRecord, CallbackWork
from dlr.turns import Limits
from shared.runtime.clock import Clock
from shared.runtime.postgres import open_pool
from tests.support.deliveries import client_at, ended, open_deliver
from tests.support.endpoints import Reply, Request, answer, endpoint
from tests.support.flow import LEASE_SECONDS, Flow, PoolSettings, open_flow
from tests.support.postgres_proxy import open_proxy
from tests.support.servers import Database

ROW = "select is_leased, attempts, due_at <= clock_timestamp() from tollwire.callbacks where id = $1"
GIVEN_BACK, LEASED = (False, 0, True), (True, 0, False)
URL = "https://example.org/"


async def work_of(flow: Flow) -> CallbackWork:
    """A callback that is leased to us."""
    (work,) = await ended(flow, await client_at(flow, URL), None)
    return work


def due_now(work: CallbackWork) -> CallbackRecord:
    return records.sent_back(work, 0.0)


async def test_what_found_no_turn_is_given_back(database: Database) -> None:
    async with open_flow(database) as flow:
        work, clock, heard = await work_of(flow), Clock(), list[UUID]()
        async with PutOffs(flow.pool, clock, heard.append) as put_offs:
            put_offs.add(due_now(work), clock.monotonic() + LEASE_SECONDS)
        assert tuple(await flow.row(ROW, work.callback_id)) == GIVEN_BACK
        assert heard == [work.callback_id]


async def test_what_might_be_anothers_by_then_is_left_to_its_lease(database: Database) -> None:
    async with open_flow(database) as flow:
        late, early = await work_of(flow), await work_of(flow)
        clock, heard = Clock(), list[UUID]()
        async with PutOffs(flow.pool, clock, heard.append) as put_offs:
            put_offs.add(
                due_now(late), clock.monotonic() + LEASE_LEFT_SECONDS
            )  # less of it when it is written
            put_offs.add(due_now(early), clock.monotonic() + LEASE_LEFT_SECONDS + 10)
        assert tuple(await flow.row(ROW, late.callback_id)) == LEASED
        assert tuple(await flow.row(ROW, early.callback_id)) == GIVEN_BACK
        assert heard == [late.callback_id, early.callback_id], "both are held no longer"


async def test_a_note_whose_answer_is_lost_takes_nothing_from_who_leased_it_since(database: Database) -> None:
    async with (
        open_flow(database) as flow,
        open_proxy(database.dsn("postgres")) as (proxy, dsn),
        open_pool(PoolSettings(dsn), application_name="test") as pool,
    ):
        work, clock = await work_of(flow), Clock()
        async with PutOffs(pool, clock, lambda _: None) as put_offs:
            proxy.break_instead_of_answering(work.callback_id.bytes)
            put_offs.add(due_now(work), clock.monotonic() + LEASE_SECONDS)
            await asyncio.wait_for(proxy.is_gone.wait(), 10)
            leased = await store.lease_callbacks(flow.pool, 10, 10, LEASE_SECONDS)
            assert [callback_id for callback_id, _ in leased] == [work.callback_id]
            proxy.heal()
        assert tuple(await flow.row(ROW, work.callback_id)) == LEASED


async def test_a_database_that_is_away_leaves_it_to_its_lease_and_frees_its_place(database: Database) -> None:
    async with (
        open_flow(database) as flow,
        open_proxy(database.dsn("postgres")) as (proxy, dsn),
        open_pool(PoolSettings(dsn), application_name="test") as pool,
    ):
        work, clock, heard = await work_of(flow), Clock(), list[UUID]()
        async with PutOffs(pool, clock, heard.append) as put_offs:
            proxy.cut()
            put_offs.add(due_now(work), clock.monotonic() + LEASE_SECONDS)
        assert heard == [work.callback_id]
        assert tuple(await flow.row(ROW, work.callback_id)) == LEASED


async def test_who_leaves_with_callbacks_in_its_lines_gives_them_back(database: Database) -> None:
    gate = asyncio.Event()

    async def silence(_: Request, reply: Reply) -> None:
        await gate.wait()
        await reply.send(answer(200))

    async with open_flow(database) as flow, endpoint(silence) as server:
        works = await ended(flow, await client_at(flow, server.url()), None, 4)
        async with open_deliver(flow, limits=Limits(waiting_max=1)) as deliver:
            deliver.deliver_soon(works)
            await asyncio.sleep(0)
            gate.set()
        rows = [tuple(await flow.row(ROW, work.callback_id))[:2] for work in works]
        assert rows == [(False, 1), *[(False, 0)] * 3]


async def test_who_finds_no_turn_late_in_its_lease_leaves_it_to_that(database: Database) -> None:
    async with open_flow(database) as flow:
        work = await work_of(flow)
        async with open_deliver(flow) as deliver:
            deliver.deliver_soon([work], Clock().monotonic() - LEASE_SECONDS + LEASE_LEFT_SECONDS)
        assert tuple(await flow.row(ROW, work.callback_id)) == LEASED
