"""Functions that an earlier version installed are made this one's by every migration, and refused before."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from cli import renewal
from cli.doctor_findings import Level
from cli.doctor_schema import check_schema as doctor_check
from cli.migrate import REPOSITORY, upgrade
from cli.renewal import INSTALLED, NEWEST, pieces, program_version
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database
from shared.storage import schema
from shared.storage.function_files import functions_digest
from shared.storage.schema import SchemaTooOld, check_schema
from tests.integration.test_bootstrap_command import tollwire
from tests.integration.test_privileges import FUNCTIONS, MATRIX, ROLES
from tests.support.flow import open_flow
from tests.support.servers import Database

READ_NUMBERS = "tollwire.read_numbers_v1(uuid[], smallint, boolean)"
# Another result, other grants, one that was not there and one of another shape.
BEFORE = (
    f"drop function {READ_NUMBERS}",
    """create function tollwire.read_numbers_v1(p_message uuid[], p_carrier smallint, p_ask_again boolean)
       returns table (o_msisdn text, o_is_test boolean) language plpgsql stable as 'begin end'""",
    f"grant execute on function {READ_NUMBERS} to tollwire_api, tollwire_worker",
    "grant execute on function tollwire.claim_batch_v1 to tollwire_api, public",
    "drop function tollwire.has_taken_callbacks_v1",
    """create function tollwire.tell_dead_letters_v1(p_message uuid[], p_more integer) returns setof uuid
       language plpgsql as 'begin end'""",
)
NOTE_LATER = "insert into tollwire.installed_functions (digest, version) values ('later', '{99}')"
# Of the version that this program has, or of one before it.
NOTE_OTHER = "insert into tollwire.installed_functions (digest, version) values ('other', $1)"
FORGOTTEN = "select not exists (select from tollwire.installed_functions where digest = $1)"
# With a text of before of a function of money.
CHANGED = 5
POST_CREDIT = "select pg_get_functiondef(oid) from pg_proc where proname = 'post_credit_v1'"
ROWS = "select oid, xmin::text from pg_proc where pronamespace::regnamespace::text in ('tollwire', 'ledger')"


@asynccontextmanager
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn())
    try:
        await connection.execute("set role tollwire_owner")
        yield connection
    finally:
        await connection.close()


async def set_back(database: Database) -> None:
    """Make the functions those of a version before this one, as it would have left them."""
    async with owner(database) as connection:
        body = str(await connection.fetchval(POST_CREDIT))
        await connection.execute(body.replace("begin", "begin\n    -- of before", 1))
        for statement in BEFORE:
            await connection.execute(statement)
        await connection.execute("update tollwire.installed_functions set digest = 'of before'")


async def made(connection: asyncpg.Connection) -> dict[str, str]:
    return {row["name"]: row["made"] for row in await connection.fetch(INSTALLED)}


async def checked(database: Database) -> None:
    async with open_flow(database, "worker") as flow:
        await check_schema(flow.pool)


async def migrated(database: Database, *, is_way_back: bool = False) -> int | None:
    return await asyncio.to_thread(upgrade, database.dsn(), is_way_back=is_way_back)


async def test_functions_of_before_are_refused_and_then_made_right(
    make_database: Callable[[], Database],
) -> None:
    database, new = make_database(), make_database()
    await set_back(database)
    with pytest.raises(SchemaTooOld, match="tollwire migrate"):
        await checked(database)

    assert await migrated(database) == CHANGED

    await checked(database)
    async with owner(database) as connection, owner(new) as other:
        assert await made(connection) == await made(other)
        found = {row[0] for row in await connection.fetch(FUNCTIONS, ROLES)}
    assert found == {line for line in MATRIX.read_text("utf-8").splitlines() if line.startswith("function")}


WITHOUT_DEFAULTS = (
    "alter default privileges grant execute on functions to public",
    "drop function tollwire.has_taken_callbacks_v1",
    f"drop function {READ_NUMBERS}",
    """create function tollwire.read_numbers_v1(p_message uuid[], p_carrier smallint, p_ask_again boolean)
       returns table (o_msisdn text, o_is_test boolean) language plpgsql stable as 'begin end'""",
    "drop function tollwire.watch_later_v1",
    pieces()["tollwire.watch_later_v1"],
)


async def test_nobody_else_may_call_what_was_made_where_everybody_may_by_default(
    database: Database,
) -> None:
    """One that is missing, one of another result, and one that is as it is to be but for its rights."""
    async with owner(database) as connection:
        for statement in WITHOUT_DEFAULTS:
            await connection.execute(statement)
        assert await migrated(database) == CHANGED - 2
        found = {row[0] for row in await connection.fetch(FUNCTIONS, ROLES)}
    assert found == {line for line in MATRIX.read_text("utf-8").splitlines() if line.startswith("function")}
    assert await migrated(database) == 0


async def test_a_second_migration_writes_nothing(database: Database) -> None:
    await set_back(database)
    await migrated(database)
    async with owner(database) as connection:
        before = await connection.fetch(ROWS)
        assert await migrated(database) == 0
        assert await connection.fetch(ROWS) == before


async def test_a_function_that_was_replaced_by_hand_is_renewed_too(database: Database) -> None:
    async with owner(database) as connection:
        await connection.execute(pieces()["tollwire.next_state_v1"].replace("'DELIVERED'", "'SENT'"))
    assert await migrated(database) == 1
    assert await migrated(database) == 0


async def test_a_database_from_before_it_was_remembered_is_renewed(postgres: PostgresServer) -> None:
    database = Database(postgres, "of_0016")
    await ensure_database(postgres, database.name)
    config = Config(REPOSITORY / "alembic.ini")
    config.attributes["dsn"] = database.dsn()
    await asyncio.to_thread(command.upgrade, config, "0016")
    async with owner(database) as connection:
        for statement in BEFORE:
            await connection.execute(statement)
    with pytest.raises(SchemaTooOld, match="0016"):
        await checked(database)
    assert await migrated(database) == CHANGED - 1
    await checked(database)


async def test_a_new_database_has_nothing_to_renew_and_two_migrations_take_turns(
    postgres: PostgresServer,
) -> None:
    database = Database(postgres, "migrated_twice_at_once")
    await ensure_database(postgres, database.name)
    migrate = ("migrate", "--dsn", database.dsn())
    both = await asyncio.gather(*(tollwire(*migrate, NO_COLOR="1") for _ in range(2)))
    assert {(status, "renewed" in told) for status, told in both} == {(0, False)}, both
    await checked(database)


async def test_a_process_starts_beside_functions_that_came_after_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod of the version before, in the middle of an upgrade; and the one after once it was taken back."""
    async with owner(database) as connection:
        await connection.execute(NOTE_LATER)
        await checked(database)
        assert [(one.level, "newer" in one.text) for one in await doctor_check(connection)] == [
            (Level.WARNING, True)
        ]
        await migrated(database, is_way_back=True)
        assert [one.level for one in await doctor_check(connection)] == [Level.OK]
    monkeypatch.setattr(schema, "functions_digest", lambda: "later")
    with pytest.raises(SchemaTooOld, match="not this version's"):
        await checked(database)


LATER = ("drop function tollwire.has_taken_callbacks_v1", NOTE_LATER)
THIS = "--functions-of-this-version"


async def test_an_older_program_leaves_the_functions_of_a_later_one_until_it_is_told_to_go_back(
    database: Database,
) -> None:
    """A host that starts again, or an old Job that runs again, while the others were upgraded."""
    async with owner(database) as connection:
        for statement in LATER:
            await connection.execute(statement)
        before = await connection.fetch(ROWS)
        assert await migrated(database) is None
        migrate = ("migrate", "--dsn", database.dsn("migrate"))
        for arguments in ((), ("--check",)):
            status, told = await tollwire(*migrate, *arguments, NO_COLOR="1")
            assert (status, "of a later version" in told, THIS in told) == (0, True, True), told
        assert await connection.fetch(ROWS) == before
        assert await connection.fetchval(NEWEST) == "later"
        status, told = await tollwire(*migrate, THIS, NO_COLOR="1")
        assert (status, "1 function renewed." in told) == (0, True)
        assert await connection.fetchval(NEWEST) == functions_digest()


@pytest.mark.parametrize("version", [program_version(), [0, 0, 9], []])
async def test_what_no_later_version_installed_is_replaced_also_by_what_was_there_before_it(
    database: Database, version: list[int]
) -> None:
    """A release that takes a change of functions back has those of the one before; so has a checkout."""
    async with owner(database) as connection:
        await connection.execute(LATER[0])
        await connection.execute(NOTE_OTHER, version)
        check = ("migrate", "--dsn", database.dsn("migrate"), "--check")
        status, told = await tollwire(*check, NO_COLOR="1")
        assert (status, "its functions are not this version's" in told) == (1, True)
        assert [one.level for one in await doctor_check(connection)] == [Level.WARNING]
        assert await migrated(database) == 1
        assert tuple(await connection.fetchrow(NEWEST) or ()) == (functions_digest(), program_version())
        # Its processes may still be replaced one by one; those of another checkout are not.
        assert await connection.fetchval(FORGOTTEN, "other") is (version == program_version())


async def test_a_stray_older_program_that_was_never_here_leaves_a_later_ones_functions(
    database: Database,
) -> None:
    async with owner(database) as connection:
        await connection.execute("update tollwire.installed_functions set digest = 'later', version = '{99}'")
        await connection.execute(LATER[0])
        assert await migrated(database) is None
        assert await migrated(database, is_way_back=True) == 1
        assert await connection.fetchval(FORGOTTEN, "later"), "its processes are not to start on ours"


async def test_a_later_version_with_the_same_functions_is_noted_as_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owner(database) as connection:
        monkeypatch.setattr(renewal, "program_version", lambda: [98])
        assert await migrated(database) == 0
        assert tuple(await connection.fetchrow(NEWEST) or ()) == (functions_digest(), [98])
        monkeypatch.undo()
        assert await migrated(database) == 0
        assert tuple(await connection.fetchrow(NEWEST) or ()) == (functions_digest(), [98])


async def test_functions_are_renewed_while_others_call_them(database: Database) -> None:
    await set_back(database)
    async with open_flow(database, "worker") as flow, flow.pool.acquire() as worker:
        call = "select * from tollwire.read_numbers_v1('{}', 1::smallint, false)"
        async with worker.transaction():
            assert await worker.fetch(call) == []
            assert await migrated(database) == CHANGED
            assert await worker.fetch(call) == []
        assert await worker.fetch(call + " where o_is_bound") == []


async def test_the_command_tells_what_it_renewed(database: Database) -> None:
    await set_back(database)
    dsn = database.dsn("migrate")
    check = ("migrate", "--dsn", dsn, "--check")
    status, told = await tollwire(*check, NO_COLOR="1")
    assert (status, "its functions are not this version's" in told) == (1, True)
    async with owner(database) as connection:
        assert [one.level for one in await doctor_check(connection)] == [Level.FAULT]
    status, told = await tollwire("migrate", "--dsn", dsn, NO_COLOR="1")
    assert (status, "5 functions renewed." in told, "nothing to do" in told) == (0, True, False)
    status, told = await tollwire("migrate", "--dsn", dsn, NO_COLOR="1")
    assert (status, "renewed" in told, "nothing to do" in told) == (0, False, True)
    assert (await tollwire(*check))[0] == 0
