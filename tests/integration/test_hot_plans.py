"""The hot functions read by index and touch only the partitions they need, however many rows there are.

auto_explain tells the plan of every statement inside the functions.
"""

import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from api import store as api_store
from api.store import KeyAsked
from dlr import store as dlr_store
from ledger import clockwork_store, verify_online
from ledger.verify_online import OnlineVerifier
from shared.domain.ids import RANDOMNESS_BITS, uuid7_from
from shared.runtime.postgres import Pool
from tests.support.flow import Flow, accept_item, open_flow, outcome
from tests.support.servers import Database

DAYS = (-1, 0, 1)
EACH_DAY = 1_000
BIG = (
    "messages", "message_states", "message_texts", "credit_locks", "entries", "idempotency_keys", "attempts",
    "carrier_references", "receipts", "outbox",
)  # fmt: skip
SEQ_SCAN = re.compile(rf"Seq Scan on ({'|'.join(BIG)})(?:_\d+\w*)? .*rows=")
SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "client_min_messages": "log",
    "jit": "off",
}


def id_of_day(day: int) -> UUID:
    ms = time.time_ns() // 1_000_000 + day * 86_400_000
    return uuid7_from(ms, secrets.randbits(RANDOMNESS_BITS))


async def fill(flow: Flow) -> tuple[list[int], int]:
    """Thousands of messages over three days and many clients."""
    clients = [await flow.client() for _ in range(20)]
    carrier = await flow.carrier()
    for day in DAYS:
        items = [
            accept_item(clients[n % 20], message_id=id_of_day(day), key=f"{day}-{n}") for n in range(EACH_DAY)
        ]
        await flow.accept(items[: EACH_DAY // 2])
        await flow.accept(items[EACH_DAY // 2 :])
        ids = sorted(item.message_id for item in items)[: EACH_DAY // 2]
        for reference in (await flow.submitted(ids, carrier))[:200]:
            await flow.receive(carrier, reference, "delivered")
    await flow.pool.execute("analyze")
    return clients, carrier


class Lent:
    """The one connection, to be awaited or to be entered, as a pool lends it."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self.conn = conn

    def __await__(self) -> Generator[Any, None, asyncpg.Connection]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> asyncpg.Connection:
        return self.conn

    async def __aexit__(self, *_: object) -> None:
        """The connection stays ours."""


class OneConnection:
    """What a flow needs of a pool, over one connection."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self.conn = conn
        self.fetch, self.fetchval = conn.fetch, conn.fetchval
        self.fetchrow, self.execute = conn.fetchrow, conn.execute

    def acquire(self, timeout: float | None = None) -> Lent:
        return Lent(self.conn)

    async def release(self, conn: asyncpg.Connection, timeout: float | None = None) -> None:  # noqa: ASYNC109 - same
        """The connection stays ours."""


@asynccontextmanager
async def one_connection(database: Database, settings: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the server's owner, with these settings; ``OneConnection`` makes a pool of it."""
    conn = await asyncpg.connect(database.dsn(), server_settings=settings)
    try:
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def explained(database: Database) -> AsyncIterator[tuple[Flow, list[str]]]:
    """A flow, and the plans of everything that it runs."""
    plans: list[str] = []
    async with one_connection(database, SETTINGS) as conn:
        conn.add_log_listener(lambda _conn, message: plans.append(str(message.message)))
        yield Flow(cast("Pool", OneConnection(conn))), plans


def whole_scans(plans: str) -> list[str]:
    """The lines of plans that read a big table from one end to the other."""
    return [
        line.strip() for line in plans.splitlines() if SEQ_SCAN.search(line) and "never executed" not in line
    ]


READ_OF_A_DAY = re.compile(rf"Scan (?:using \w+ )?on ({'|'.join(BIG)})_(\d+) ")


def days_read(plans: str) -> dict[str, set[str]]:
    """Of which days the plans read something, by table."""
    days: dict[str, set[str]] = {}
    for line in plans.splitlines():
        if "never executed" not in line and (match := READ_OF_A_DAY.search(line)):
            days.setdefault(match[1], set()).add(match[2])
    return days


async def rebuild(flow: Flow, message_ids: list[UUID]) -> None:
    """Load first answers, by the plan that a busy connection has come to keep."""
    await flow.pool.execute("set plan_cache_mode = force_generic_plan")
    assert len(await api_store.load_accepted(flow.pool, message_ids)) == len(message_ids)


async def test_no_hot_function_reads_a_big_table_whole(database: Database) -> None:
    async with open_flow(database) as flow:
        clients, carrier = await fill(flow)
        waiting = "select message_id from tollwire.outbox order by message_id limit 300"
        due = [row[0] for row in await flow.pool.fetch(waiting)]
        receipts = [row[0] for row in await flow.pool.fetch("select id from tollwire.receipts")]
    faults = []
    async with explained(database) as (flow, plans):
        await flow.pool.fetch("select count(msisdn) from tollwire.messages")
        assert len(whole_scans("\n".join(plans))) >= len(DAYS)  # so the eyes are open
        (claim, *_) = await flow.claim(due[:50], carrier)
        lines = [outcome(message, claim.attempt_no, "submitted") for message in due[:50]]
        works = {
            "accept": flow.accept([accept_item(clients[n % 20], key=f"new-{n}") for n in range(100)]),
            "claim": flow.claim(due[50:150], carrier),
            "record": flow.record(lines, carrier),
            "settle": flow.settle(receipts[:100]),
            "lease_receipts": dlr_store.lease_receipts(flow.pool, 500),
            "known_keys": api_store.known_keys(flow.pool, [KeyAsked(id_, "0-0", 0) for id_ in clients]),
            "cancel": flow.cancel(clients[0], due[200:250]),
            "look_due": clockwork_store.look_due(flow.pool, 500),
            "suspensions": clockwork_store.suspensions(flow.pool),
            "waiting_after": clockwork_store.waiting_after(flow.pool, due[0], 500),
            "messages_of": clockwork_store.messages_of(flow.pool, due, clients[:2]),
            "has_leases": clockwork_store.has_leases(flow.pool, are_long=True),
            "end_lost_leases": clockwork_store.end_lost_leases(flow.pool, [None] * 3, 2, None, 500),
            "dispatch_due": clockwork_store.dispatch_due(flow.pool, due[150:200], [None] * 3, 1),
            "expire_due": clockwork_store.expire_due(flow.pool, due[150:200]),
            "expire_holds": clockwork_store.expire_holds(flow.pool, due[:50]),
            "walk_holds": walk(flow),
            "start_scheduled": clockwork_store.start_scheduled(flow.pool, due[150:200]),
            "recover_claims": clockwork_store.recover_claims(flow.pool, due[50:100], 10),
        }
        for name, work in works.items():
            plans.clear()
            await work
            assert plans, name
            faults += [f"{name}: {line}" for line in whole_scans("\n".join(plans))]
        plans.clear()
        await rebuild(flow, due[:100])
        faults += [f"rebuild: {line}" for line in whole_scans("\n".join(plans))]
        days = days_read("\n".join(plans))
        assert {table: len(read) for table, read in days.items()} == {
            "messages": 1,
            "credit_locks": 1,
            "entries": 1,
        }
    assert not faults, "\n".join(faults)


async def walk(flow: Flow) -> None:
    """Walk holds, with what a new connection knows of its bounds and with what a busy one has kept."""
    sql = "select o_held from ledger.walk_holds_v1($1, $2, 500)"
    for _ in range(7):
        held = await flow.pool.fetch(sql, id_of_day(DAYS[0] - 1), id_of_day(DAYS[-1] + 1))
        assert len(held) == 500


REMOVED = re.compile(r"Rows Removed by (?:Join )?Filter: (\d+)")


async def test_a_plan_made_for_few_rows_looks_each_row_up_when_they_are_many(database: Database) -> None:
    """Kills under load found it: with a stale message in it a claim read all that waited, for each message.

    It took longer than anybody waits, was given back, and asked again: nothing was sent any more.
    """
    async with explained(database) as (flow, plans):
        client, carrier = await flow.client(), await flow.carrier()
        few = await flow.accepted(client, 3)
        await flow.pool.execute("analyze")
        await flow.claim(few, carrier, dispatch_no=7)
        (claim, *_) = await flow.claim(few, carrier)
        await flow.record([outcome(id_, claim.attempt_no, "throttled") for id_ in few], carrier)
        many = [id_ for _ in range(4) for id_ in await flow.accepted(client, 500)]
        asked = [*many[::5], id_of_day(0)]
        plans.clear()
        claims = await flow.claim(asked, carrier)
        assert [one.refusal for one in claims] == [None] * (len(asked) - 1) + ["stale"]
        throttled = [outcome(id_, 1, "throttled") for id_ in asked[:-1]]
        await flow.record(throttled, carrier)
        await flow.later(many, 61)
        due = await clockwork_store.look_due(flow.pool, len(many))
        await clockwork_store.dispatch_due(flow.pool, due["dispatch"], [None] * 3, 1)
        removed = [int(number) for number in REMOVED.findall("\n".join(plans))]
    # A join of what was asked for with itself is small; one with all that waits between is five times that.
    assert max(removed, default=0) <= len(asked) ** 2


NODE = re.compile(r"actual rows=([\d.]+) loops=(\d+)")
LEFT_OUT = re.compile(r"Rows Removed by [\w ]+: (\d+)")


def rows_passed(plans: str) -> Iterator[float]:
    """How many rows each node of the plans has given or left out, in all its loops."""
    loops = 0
    for line in plans.splitlines():
        if match := NODE.search(line):
            loops = int(match[2])
            yield float(match[1]) * loops
        elif match := LEFT_OUT.search(line):
            yield int(match[1]) * loops


async def test_a_bite_of_the_proof_goes_through_its_rows_once_whatever_statistics_say(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand messages took 0.1 to 0.3 s of one CPU instead of 5 ms: each read all attempts of its bite.

    Their ids lie between two bounds of a histogram, which a day's table has few of: one row, say statistics.
    """
    monkeypatch.setattr(verify_online, "ENTRIES_A_BITE", 500)
    monkeypatch.setattr(verify_online, "MESSAGES_A_BITE", 500)
    async with explained(database) as (flow, plans):
        client, carrier = await flow.client(), await flow.carrier()
        for _ in range(4):
            ids = await flow.accepted(client, 500)
            (reference, *_) = await flow.submitted(ids, carrier)
            await flow.receive(carrier, reference, "delivered")
        await flow.pool.execute("set default_statistics_target = 1")
        await flow.pool.execute("analyze")
        plans.clear()
        verifier = OnlineVerifier(flow.pool)
        while not (verifier.rounds and verifier.message_rounds):
            assert await verifier.some_accounts() + await verifier.some_messages() == []
        passed = list(rows_passed("\n".join(plans)))
    # All entries there are, at most: 231,705 and 250,000 it was.
    assert 500 <= max(passed) <= 2_500
