"""Many seeds, one after the other, and what they found."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shared.runtime.postgres import OutcomeUnknown, Pool
from tests.chaos.simulation.both import BothServers
from tests.chaos.simulation.oracle.server import OracleServer
from tests.chaos.simulation.program import Step, program_of
from tests.chaos.simulation.run import Failure, carry_out
from tests.chaos.simulation.shrink import shrunk
from tests.chaos.simulation.sql_server import SqlServer
from tests.chaos.simulation.wire import Server

MakeServer = Callable[[], Server]


class Found(NamedTuple):
    """A seed that fails."""

    seed: int
    failure: Failure


class Tally(NamedTuple):
    """What a row of seeds came to."""

    seeds: int
    calls: int
    messages: int
    seconds: float
    found: list[Found]


def on_both(pool: Pool) -> MakeServer:
    """The database and the oracle side by side."""
    return lambda: BothServers(SqlServer(pool), OracleServer())


async def try_seeds(
    make: MakeServer, seeds: Iterable[int], until: float | None = None, found_max: int = 1
) -> Tally:
    """Run seeds until enough was found or the time (monotonic) is over."""
    started = time.monotonic()
    calls = messages = number = 0
    found: list[Found] = []
    for seed in seeds:
        if len(found) >= found_max or (until is not None and time.monotonic() > until):
            break
        try:
            outcome = await carry_out(make(), seed, program_of(seed))
        except OutcomeUnknown:
            outcome = await carry_out(make(), seed, program_of(seed))
        number, calls, messages = number + 1, calls + outcome.calls, messages + outcome.messages
        if outcome.failure is not None:
            found.append(Found(seed, outcome.failure))
    return Tally(number, calls, messages, time.monotonic() - started, found)


async def shortest(make: MakeServer, found: Found, tries_max: int = 400) -> tuple[list[Step], Failure]:
    """The shortest program that fails as a seed does, and how it fails."""

    async def failure_of(program: Sequence[Step]) -> Failure | None:
        return (await carry_out(make(), found.seed, program)).failure

    async def fails(program: Sequence[Step]) -> bool:
        failure = await failure_of(program)
        return failure is not None and failure.name == found.failure.name

    program = await shrunk(program_of(found.seed), fails, tries_max)
    return program, await failure_of(program) or found.failure


def told(found: Found, program: Sequence[Step], failure: Failure) -> str:
    """A finding as it is printed."""
    return "\n".join(
        [
            f"seed {found.seed} (python -m tests.chaos.simulation show {found.seed})",
            f"{failure.sentence}",
            f"{len(program)} steps of it suffice:",
            failure.trace,
        ]
    )
