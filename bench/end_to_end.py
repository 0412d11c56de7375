"""The whole way: accept, worker, carrier, receipt, capture, callback, and proof that each was exact."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

from bench import books
from bench.customers import add_carrier, add_clients, set_callback
from bench.figures import percentile
from bench.instance import Instance, instance
from bench.load import MICROSECONDS, Outcome, Plan, Requests
from bench.processes import Usage, usage
from bench.receivers import Receiver, carrier, sink
from bench.recordings import Record
from bench.waiting import until
from embedded.unit import running

CLIENT: Final = "bench"
# Enough that every process has its statements prepared and its connections open.
WARM_UP_REQUESTS: Final = 2_000
WARM_UP_CONNECTIONS: Final = 32
# Nothing moved for so long: it will not come any more. A retry after a temporary refusal takes some seconds.
STILL_SECONDS: Final = 40.0
LIMIT_SECONDS: Final = 200.0
# A real carrier's receipt comes seconds later; at once, it would meet submits that are not yet recorded.
RECEIPT_DELAY_SECONDS: Final = 0.1
# The last callbacks are noted within some flushes.
SETTLE_SECONDS: Final = 20.0
SHARES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Rig:
    """An instance with everything around it."""

    instance: Instance
    carrier: Receiver
    sink: Receiver
    requests: Requests

    def usage(self) -> dict[str, Usage]:
        """What each process has cost so far."""
        others = {unit.name: usage(unit.child.pid or 0) for unit in (self.carrier, self.sink)}
        return {**self.instance.usage(), **others}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the whole way. Times from the first request on; latencies in ms by share."""

    load: Outcome
    submitted: Sequence[Record]
    called_back: Sequence[Record]
    captured_seconds: float
    cpu_seconds: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    wal_bytes: int

    @property
    def messages(self) -> int:
        """How many were accepted."""
        return len(self.load.accepted)

    def rate_to(self, end_us: int) -> float:
        """Messages a second from the first request to a moment."""
        return self.messages * MICROSECONDS / (end_us - self.load.begun_us)

    @property
    def rate(self) -> float:
        """Messages a second to the last callback: the figure that counts."""
        return self.rate_to(max(record.to_us for record in self.called_back))

    @property
    def submit_rate(self) -> float:
        """Messages a second to the last submit."""
        return self.rate_to(max(record.from_us for record in self.submitted))

    @property
    def capture_rate(self) -> float:
        """Messages a second to the last capture."""
        return self.messages / self.captured_seconds

    def delays_ms(self, ends: Mapping[bytes, int]) -> dict[float, float]:
        """How long after its acceptance each message got there, by share."""
        delays = sorted((ends[record.id] - record.to_us) / 1_000 for record in self.load.accepted)
        return {share: percentile(delays, share) for share in SHARES}

    @property
    def submit_delays_ms(self) -> dict[float, float]:
        """From the answer to the first submit."""
        return self.delays_ms({record.id: record.from_us for record in reversed(self.submitted)})

    @property
    def callback_delays_ms(self) -> dict[float, float]:
        """From the answer to the callback."""
        return self.delays_ms({record.id: record.to_us for record in self.called_back})


@asynccontextmanager
async def rig(folder: Path, *, scale: Mapping[str, int] | None = None, **rules: object) -> AsyncIterator[Rig]:
    """A new instance with a client, a carrier and a sink; it has carried some messages already."""
    async with instance(folder, services=(), scale=scale) as made:
        rules = {"receipt_delay": RECEIPT_DELAY_SECONDS, **rules}
        (key,) = await add_clients(made, [CLIENT])
        async with (
            running(sink(folder)) as receiver,
            running(carrier(folder, made.receipts_port, **rules)) as sms,
        ):
            await add_carrier(made, sms.url)
            for name in made.launches:
                await made.start(name)
            set_callback(made, key, receiver.url)
            whole = Rig(made, sms, receiver, Requests(folder, [key]))
            await carry(whole, Plan(connections=WARM_UP_CONNECTIONS, requests=WARM_UP_REQUESTS))
            yield whole
            # Before the carrier and the sink go, so that nobody meets a closed door.
            await made.stop_services()


async def carry(rig: Rig, plan: Plan, *, is_verified: bool = True) -> Run:
    """Send messages to the rig's API and wait until the last callback is in.

    Raises:
        WrongCount: something was lost, came twice, or the books are not whole.
    """
    newest, used = await books.newest_message(rig.instance), rig.usage()
    begun = await rig.instance.value(_MOMENT)
    load = await rig.requests.run(replace(plan, port=rig.instance.api_port))
    wanted = len(load.accepted)
    await rig.sink.reached(wanted, limit_seconds=LIMIT_SECONDS, still_seconds=STILL_SECONDS)
    spent = rig.usage()
    await _settled(rig.instance, newest)
    submitted, called_back = await rig.carrier.records(), await rig.sink.records()
    books.expect_same_messages(load.accepted, called_back)
    wal_bytes, captured_seconds = await _since(rig.instance, begun)
    cpu = {name: spent[name].cpu_seconds - used[name].cpu_seconds for name in used}
    run = Run(
        load, submitted, called_back, captured_seconds,
        {"load": load.cpu_seconds, **cpu},
        {name: spent[name].memory_bytes for name in used}, wal_bytes,
    )  # fmt: skip
    await _expect_exact(rig.instance, newest, wanted)
    if is_verified:
        await books.verify(rig.instance)
    return run


_MOMENT: Final = "select pg_current_wal_lsn()::text || ' ' || clock_timestamp()::text"
_SINCE: Final = """
    select (pg_current_wal_lsn() - $1::text::pg_lsn)::bigint,
           extract(epoch from max(resolved_at) - min(held_at))::double precision
    from ledger.credit_locks where held_at >= $2::text::timestamptz
"""


async def _since(made: Instance, moment: str) -> tuple[int, float]:
    wal, _, at = moment.partition(" ")
    async with made.database() as connection:
        rows = await connection.fetch(_SINCE, wal, at)
    return int(rows[0][0]), float(rows[0][1])


async def _settled(made: Instance, newest: UUID) -> None:
    """Wait until what follows the last callback is written down as well."""

    async def nothing_is_open() -> bool:
        return (await books.totals(made, newest)).is_settled

    await until(nothing_is_open, SETTLE_SECONDS)


async def _expect_exact(made: Instance, newest: UUID, wanted: int) -> None:
    after = await books.totals(made, newest)
    books.expect("messages stored", after.messages, wanted)
    books.expect("holds settled", after.captured + after.released, wanted)
    books.expect(
        "holds, outbox rows and callbacks still open",
        (after.held, after.outbox, after.callbacks_open),
        (0, 0, 0),
    )
