"""A dead endpoint with a pile of events that wait for it, beside one that answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench import books
from bench.customers import add_clients, set_callback
from bench.end_to_end import Rig, Run, carry, rig
from bench.filling import store
from bench.instance import scratch_folder
from bench.load import Plan
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario

PILE: Final = 100_000
# Of the pile: the fill writes with two processes, each for clients of its own.
OWNERS: Final = 2
CONNECTIONS: Final = 32
RATE: Final = 300
SECONDS: Final = 5
# Of a single round the P99 is the 15th worst: its median needs some of them.
ROUNDS_MIN: Final = 5
PLAN: Final = Plan(connections=CONNECTIONS, rate=RATE, requests=RATE * SECONDS)
SHARES: Final = (0.5, 0.99)
UNDISTURBED: Final = (Goal(1.10, 1.05, of_ratio=True, at_most=True),)
DEAD: Final = "dead"
# Refuses every connection, or takes it and never answers.
DEATHS: Final = ("refuses", "hangs")
BACKLOG_MAX: Final = 4_096

_ENDPOINT: Final = """
    select e.id from tollwire.callback_endpoints e join tollwire.clients c on c.id = e.client_id
    where c.name = $1
"""
# The stored events of clients that never had a secret to sign with become the dead endpoint's.
_WAIT: Final = """
    with piled as (
        update tollwire.callbacks set endpoint_id = $1, attempts = 0, due_at = clock_timestamp(),
            done_at = null, outcome = null, status = null, duration_ms = null
        where client_id in (select id from tollwire.clients where name like 'fill-%') returning 1)
    select count(*) from piled
"""
_WAITING: Final = "select count(*) from tollwire.callbacks where endpoint_id = $1 and done_at is null"
_END: Final = """
    update tollwire.callbacks set done_at = clock_timestamp(), outcome = 'discarded'
    where endpoint_id = $1 and done_at is null
"""


@scenario("dead_endpoint")
async def dead_endpoint(report: Report, options: Options) -> None:
    """Accept to callback at 300/s, without and with 100,000 events that wait for another's dead endpoint."""
    quiet: list[Run] = []
    beside: dict[str, list[Run]] = {death: [] for death in DEATHS}
    left: dict[str, list[float]] = {death: [] for death in DEATHS}
    with scratch_folder(options.folder) as folder:
        async with rig(folder, scale=options.scale) as whole:
            (key,) = await add_clients(whole.instance, [DEAD])
            await store(whole.instance, "--messages", PILE, "--clients", OWNERS)
            for _ in range(max(options.rounds, ROUNDS_MIN)):
                quiet.append(await _carried(whole))
                for death in DEATHS:
                    run, waiting = await _beside(whole, key, death)
                    beside[death].append(run)
                    left[death].append(waiting)
    for death in DEATHS:
        for share in SHARES:
            report.add(
                f"accept to callback beside one that {death}, P{share * 100:g}", "ms",
                [run.callback_delays_ms[share] for run in beside[death]],
                against=("quiet", [run.callback_delays_ms[share] for run in quiet]),
                goals=UNDISTURBED if share == 0.99 else (),
            )  # fmt: skip
        report.add(f"still waiting for the one that {death}", "events", left[death])


async def _beside(whole: Rig, key: str, death: str) -> tuple[Run, float]:
    """One run with the pile, and how much of it is left afterwards. The endpoint is new: nobody knows it."""
    with _dead(death) as url:
        set_callback(whole.instance, key, url)
        endpoint_id = await whole.instance.value(_ENDPOINT, DEAD)
        books.expect("events piled up", await whole.instance.value(_WAIT, endpoint_id), PILE)
        run = await _carried(whole)
        waiting = float(await whole.instance.value(_WAITING, endpoint_id))
        await whole.instance.value(_END, endpoint_id)
    return run, waiting


@contextmanager
def _dead(death: str) -> Iterator[str]:
    """Hold a port where nobody accepts: connections are refused, or made by the kernel and left silent."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if death == "hangs":
            door.listen(BACKLOG_MAX)
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


async def _carried(whole: Rig) -> Run:
    # What made or ended the pile is not to be paid for by the round.
    await whole.instance.value("vacuum analyze tollwire.callbacks")
    await whole.instance.value("checkpoint")
    return await carry(whole, PLAN, is_verified=False)
