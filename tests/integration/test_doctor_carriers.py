"""`tollwire doctor` and the carriers that were stopped by hand: messages wait for them without an error."""

import asyncpg
import pytest

from cli.doctor_carriers import check_carriers
from cli.doctor_findings import Finding, Level
from cli.doctor_place import find_place
from cli.doctor_postgres import check_postgres
from tests.support.servers import Database

CARRIERS = """
    insert into tollwire.carriers (id, name, kind, settings)
    values (101, 'alpha', 'http', '{}'), (102, 'beta', 'http', '{}'), (103, 'gamma', 'http', '{}')
"""
ROUTES = """
    insert into tollwire.routes (prefix, priority, carrier_id)
    values ('', 1, 101), ('49', 1, 101), ('49', 2, 102), ('33', 1, 102), ('44', 1, 103)
"""


@pytest.fixture
async def owner(database: Database):
    connection = await asyncpg.connect(database.dsn())
    yield connection
    await connection.close()


async def looked(database: Database) -> Finding | None:
    """What is found about carriers, in the role of the API alone."""
    place = find_place({"TOLLWIRE_POSTGRES_DSN": database.dsn("api")}, ("api",))
    found = [one for one in await check_postgres(place) if one.check == "carriers"]
    assert len(found) <= 1
    return found[0] if found else None


async def stop(owner: asyncpg.Connection, *names: str) -> None:
    await owner.execute("update tollwire.carriers set enabled = not name = any($1::text[])", names)


async def test_a_carrier_that_is_stopped_is_told_and_whose_numbers_nobody_carries(database, owner):
    assert await looked(database) is None
    await owner.execute(CARRIERS)
    await owner.execute(ROUTES)
    started = await looked(database)
    assert started is not None
    assert (started.level, started.text) == (Level.OK, "3 started, none stopped")
    others = "all numbers without a longer prefix"
    for names, numbers in (
        (["beta"], " for numbers that begin with 33"),
        (["alpha"], f" for {others}"),
        (["alpha", "gamma"], f" for {others} and numbers that begin with 44"),
        (["alpha", "beta", "gamma"], ""),
    ):
        await stop(owner, *names)
        seen = await looked(database)
        assert seen is not None
        text = f"every carrier{numbers} is stopped: {', '.join(names)}"
        assert (seen.level, seen.text) == (Level.WARNING, text)
        assert seen.what_to_do.endswith(f"`tollwire carrier start {names[0]}` starts one.")
    await owner.execute("delete from tollwire.routes where prefix = '33'")
    await stop(owner, "beta")
    covered = await looked(database)
    assert covered is not None
    assert (covered.level, covered.text) == (Level.NOTE, "stopped: beta; every prefix has another carrier")


async def test_where_there_is_no_schema_nothing_is_said_about_carriers(postgres):
    connection = await asyncpg.connect(postgres.dsn())
    try:
        assert await check_carriers(connection) == []
    finally:
        await connection.close()
