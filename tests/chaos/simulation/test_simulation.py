"""The short part of the simulation: fixed seeds on the database and the oracle, more on the oracle alone."""

import pytest

from tests.chaos.simulation import lock_order, seeds
from tests.chaos.simulation.both import BothServers, DisagreementError, differences
from tests.chaos.simulation.instance import one_connection, prepare
from tests.chaos.simulation.oracle.server import OracleServer
from tests.chaos.simulation.program import Choices, Step, program_of
from tests.chaos.simulation.run import carry_out
from tests.chaos.simulation.shrink import shrunk
from tests.support.servers import Database

ON_BOTH = range(1, 7)
ON_ORACLE = range(1, 41)


async def test_the_database_is_as_the_oracle_says(database: Database) -> None:
    # A verification goes through the days by their partitions; here one stands for all of them.
    database.is_corrupted_on_purpose()
    await prepare(database.dsn())
    async with one_connection(database.dsn()) as pool:
        assert await lock_order.faults(pool) == []
        tally = await seeds.try_seeds(seeds.on_both(pool), ON_BOTH)
    assert [found.failure.sentence for found in tally.found] == []


async def test_the_invariants_hold_on_the_oracle() -> None:
    tally = await seeds.try_seeds(OracleServer, ON_ORACLE)
    assert [found.failure.sentence for found in tally.found] == []
    assert (tally.seeds, tally.calls > 100 * tally.seeds) == (len(ON_ORACLE), True)


async def test_a_seed_is_always_the_same_run() -> None:
    one, other = [await carry_out(OracleServer(), 7, program_of(7)) for _ in range(2)]
    assert one == other
    assert program_of(7) != program_of(8)


async def test_a_program_is_cut_down_to_what_it_fails_for() -> None:
    program = program_of(5)
    guilty = {3, 40}

    async def fails(steps: object) -> bool:
        return all(any(step is program[place] for step in steps) for place in guilty)  # type: ignore[attr-defined] # steps of ours

    left = await shrunk(program, fails)
    assert left == [program[3], program[40]]


async def test_what_is_left_of_a_step_is_plain() -> None:
    async def fails(steps: object) -> bool:
        return any(step.word == "accept" and len(step.numbers) >= 2 for step in steps)  # type: ignore[attr-defined] # steps of ours

    assert await shrunk([Step("accept", tuple(range(24)))], fails) == [Step("accept", (0, 1))]


def test_choices_are_plain_when_numbers_run_out() -> None:
    choices = Choices((7,))
    assert (choices.of("abc"), choices.of("abc"), choices.rarely(5)) == ("b", "a", False)


async def test_a_difference_is_told_by_row() -> None:
    sql, oracle = {"messages": {"m": ("QUEUED",)}}, {"messages": {"m": ("SENT",)}}
    assert differences(sql, oracle) == ["messages m: the database says ('QUEUED',), the oracle ('SENT',)"]
    both = BothServers(OracleServer(), OracleServer())
    with pytest.raises(DisagreementError, match="accept"):
        await both._each("accept", lambda server: _one(server is both._sql))


async def _one(is_first: bool) -> bool:
    return is_first
