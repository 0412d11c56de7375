"""How fast messages are accepted when nothing carries them away."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import books
from bench.customers import add_carrier, add_clients
from bench.instance import Instance, instance
from bench.load import ACCEPTED, BATCH_MESSAGES, Outcome, Plan, Requests
from bench.yardsticks.process import Yardstick
from embedded.unit import running

CLIENT: Final = "bench"
# Everything but the worker, so that accepted messages stay where they are.
SERVICES: Final = ("ledger", "api", "dlr")
WARM_UP_REQUESTS: Final = 3_000
BATCH_PATH: Final = "/v1/messages/batch"
SLOW_DATABASE: Final = "one_transaction"
NOBODY: Final = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Desk:
    """An instance that accepts, and a bare handler beside it."""

    instance: Instance
    bare: Yardstick
    requests: Requests
    folder: Path
    keys: Sequence[str]

    def with_one_client(self) -> "Desk":
        """The same, but all requests come from the first client."""
        return self.with_keys(self.keys[:1])

    def with_keys(self, keys: Sequence[str]) -> "Desk":
        """The same, but requests use these keys in turn."""
        return replace(self, requests=Requests(self.folder, keys))


@asynccontextmanager
async def desk(
    folder: Path, *, clients: int = 1, scale: Mapping[str, int] | None = None
) -> AsyncIterator[Desk]:
    """A new instance without a worker, with clients and a route; it has accepted some messages already."""
    async with (
        instance(folder, services=(), scale=scale) as made,
        running(Yardstick("bare_handler", folder)) as bare,
    ):
        keys = await add_clients(made, [f"{CLIENT}-{number}" for number in range(clients)])
        await add_carrier(made, NOBODY)
        for name in made.launches:
            if name.partition("-")[0] in SERVICES:
                await made.start(name)
        whole = Desk(made, bare, Requests(folder, keys), folder, keys)
        for port in (made.api_port, bare.port):
            await whole.requests.run(Plan(port=port, connections=32, requests=WARM_UP_REQUESTS))
        yield whole


async def accept(desk: Desk, plan: Plan) -> Outcome:
    """Send messages; each must be accepted, and stored once.

    Raises:
        WrongCount: it was not so.
    """
    newest = await books.newest_message(desk.instance)
    outcome = await desk.requests.run(replace(plan, port=desk.instance.api_port))
    books.expect("statuses", set(outcome.codes), {ACCEPTED})
    after = await books.totals(desk.instance, newest)
    books.expect("messages stored", after.messages, len(outcome.accepted))
    return outcome


async def accept_batches(desk: Desk, plan: Plan) -> Outcome:
    """Send batches of 1,000; each message must be accepted, and stored once.

    Raises:
        WrongCount: it was not so.
    """
    newest = await books.newest_message(desk.instance)
    outcome = await desk.requests.run(
        replace(plan, port=desk.instance.api_port, path=BATCH_PATH), in_batches=True
    )
    books.expect("statuses", set(outcome.codes), {ACCEPTED})
    books.expect("accepted of each batch", {record.extra for record in outcome.records}, {BATCH_MESSAGES})
    after = await books.totals(desk.instance, newest)
    books.expect("messages stored", after.messages, len(outcome.records) * BATCH_MESSAGES)
    return outcome


@asynccontextmanager
async def slow_desk(desk: Desk) -> AsyncIterator[Yardstick]:
    """Accept with one transaction for each request, in a database of its own on the same PostgreSQL."""
    async with desk.instance.database() as connection:
        await connection.execute(f"create database {SLOW_DATABASE}")
    postgres = desk.instance.servers.postgres
    if postgres is None:
        raise RuntimeError("the bench runs its own PostgreSQL")
    environ = {"BENCH_DSN": postgres.dsn(database=SLOW_DATABASE)}
    async with running(Yardstick("one_transaction", desk.folder, environ)) as slow:
        await desk.requests.run(Plan(port=slow.port, connections=32, requests=WARM_UP_REQUESTS))
        yield slow


async def ask_slow(desk: Desk, slow: Yardstick, plan: Plan) -> Outcome:
    """The same against one transaction a request."""
    outcome = await desk.requests.run(replace(plan, port=slow.port))
    books.expect("statuses of one transaction a request", set(outcome.codes), {ACCEPTED})
    return outcome


async def bare(desk: Desk, plan: Plan) -> Outcome:
    """The same against the bare handler."""
    outcome = await desk.requests.run(replace(plan, port=desk.bare.port))
    books.expect("statuses of the bare handler", set(outcome.codes), {ACCEPTED})
    return outcome
