"""The faults that somebody is most likely to make are found. All of them: `make chaos-simulation`."""

import pytest

from tests.chaos.planted.hunt import found_in_oracle, found_in_sql, likely_first
from tests.chaos.planted.in_oracle import IN_ORACLE
from tests.chaos.planted.in_sql import IN_SQL
from tests.chaos.planted.plant import Plant, TextIsGoneError, changed
from tests.chaos.simulation.instance import one_connection, prepare
from tests.support.servers import Database

IN_CI = (
    "lock order swapped", "fence dropped: any dispatch number claims", "lease forgotten at the accept",
    "key not looked up in the older partition", "running sum over refused", "version gap",
    "credit is not looked at", "a key answers for another request", "a refusal is not remembered",
    "the same id twice in a call is two messages", "a claim after the validity",
    "a suspended client's message is claimed", "a claim that is made again is lost",
    "the rest's money moves under no lock of all accounts",
    "a refusal's money moves under no lock of all accounts", "a hold is looked for after money has moved",
)  # fmt: skip


def test_there_is_a_fault_for_each_name_that_ci_looks_for() -> None:
    assert set(IN_CI) <= {plant.name for plant in IN_SQL}
    assert len({plant.name for plant in IN_SQL}) == len(IN_SQL)


@pytest.mark.parametrize("plant", IN_ORACLE, ids=lambda plant: plant.name)
async def test_the_invariants_alone_find_a_fault_in_the_oracle(plant: Plant) -> None:
    assert await found_in_oracle(plant, likely_first(plant)) is not None


async def test_the_simulation_finds_faults_in_the_database(database: Database) -> None:
    database.is_corrupted_on_purpose()
    await prepare(database.dsn())
    async with one_connection(database.dsn()) as pool:
        for plant in IN_SQL:
            if plant.name in IN_CI:
                assert await found_in_sql(pool, plant, likely_first(plant)) is not None, plant.name


async def test_a_fault_ends_with_its_hunt() -> None:
    plant = IN_ORACLE[0]
    await found_in_oracle(plant, likely_first(plant))
    assert await found_in_oracle(Plant("none", plant.where, (), 3), range(1, 4)) is None


def test_a_plant_whose_text_is_gone_says_so() -> None:
    plant = Plant("a fault", "sending:claim", (("what nobody wrote", ""),), 1)
    with pytest.raises(TextIsGoneError, match="what nobody wrote"):
        changed(plant, "def claim(): ...")
