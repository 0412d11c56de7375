"""Only the ledger's role may do the upkeep, and not even it may do it by hand."""

import asyncpg
import pytest

from tests.support.servers import Database

CALLS = (
    "select tollwire.take_upkeep_v1('retention', gen_random_uuid(), 1)",
    "select tollwire.inspect_day_v1('2026-01-01', 1)",
    "select tollwire.retire_day_v1('2026-01-01', 'messages', 90, true)",
    "select tollwire.note_archive_v1('2026-01-01', 'messages', '{}')",
    "select tollwire.detach_partition_v1('tollwire.messages', 'messages_20260101')",
    "select tollwire.drop_partition_v1('tollwire.messages', 'messages_20260101')",
    "select tollwire.expire_texts_v1('2026-01-01', 1)",
    "select tollwire.empty_texts_v1('2026-01-01')",
    "select tollwire.end_forgotten_v1(1)",
    "select tollwire.find_msisdn_v1('+4915112345678', gen_random_uuid(), 1)",
    "select tollwire.erase_messages_v1('{}', '+4915112345678', '+999000000000000')",
    "select tollwire.erase_receipts_v1('+4915112345678', gen_random_uuid(), 1)",
    "select tollwire.erase_answers_v1('+4915112345678', gen_random_uuid(), 1)",
    "select tollwire.reseal_carriers_v1('{}', '{}', '{}')",
    "select tollwire.reseal_callback_secrets_v1('{}', '{}', '{}')",
)
BY_HAND = (
    "insert into tollwire.retired_days (day, manifest) values ('2026-01-01', '{}')",
    "insert into tollwire.archived_days (day, part, manifest) values ('2026-01-01', 'messages', '{}')",
    "update tollwire.day_inspections set closed_at = now()",
    "delete from tollwire.message_texts",
    "update tollwire.messages set msisdn = '+999000000000000'",
    "update tollwire.carriers set secret_sealed = null",
)


async def test_no_other_role_does_the_upkeep(database: Database) -> None:
    for role in ("api", "worker", "dlr", "readonly"):
        connection = await asyncpg.connect(database.dsn(role))
        for statement in CALLS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()


async def test_the_ledgers_role_has_the_functions_and_nothing_else(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn("ledger"))
    for statement in CALLS:
        await connection.execute(statement)
    for statement in BY_HAND:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_a_pseudonym_that_could_be_somebodys_number_is_refused(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn("ledger"))
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await connection.execute(
            "select tollwire.erase_messages_v1('{}', '+4915112345678', '+4915112345679')"
        )
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await connection.execute(
            "select tollwire.chunk_end_v1('tollwire.clients', gen_random_uuid(), gen_random_uuid(), 1)"
        )
    await connection.close()


async def test_no_function_of_ours_is_open_to_everybody(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn())
    open_to_all = await connection.fetch(
        """select p.proname from pg_proc p
           where p.pronamespace in ('tollwire'::regnamespace, 'ledger'::regnamespace)
             and (p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0))"""
    )
    assert [row[0] for row in open_to_all] == []
    await connection.close()
