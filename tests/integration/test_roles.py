"""Each process's role may do its own work and nothing else (RULES 6).

And money is decided only at READ COMMITTED (RULES 2).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support.flow import new_id, open_flow
from tests.support.servers import Database

ROLES = ("api", "worker", "dlr", "ledger", "readonly")
# What each role may call; whatever is missing here, the role is refused.
CALLS: dict[str, set[str]] = {
    "tollwire.accept_batch_v1": {"api"},
    "tollwire.cancel_batch_v1": {"api"},
    "tollwire.known_keys_v1": {"api"},
    "tollwire.delivered_late_v1": {"api"},
    "tollwire.claim_batch_v1": {"worker"},
    "tollwire.record_batch_v1": {"worker"},
    "tollwire.put_off_work_v1": {"worker"},
    "tollwire.read_numbers_v1": {"worker"},
    "tollwire.settle_batch_v1": {"dlr"},
    "tollwire.take_receipts_v1": {"dlr"},
    "tollwire.tell_again_v1": {"dlr"},
    "tollwire.settle_rest_v1": set(),
    "tollwire.match_receipts_v1": set(),
    "tollwire.keep_receipts_v1": set(),
    "tollwire.receive_batch_v1": {"dlr", "worker"},
    "tollwire.expire_due_v1": {"ledger"},
    "tollwire.dispatch_due_v1": {"ledger"},
    "tollwire.end_lost_leases_v1": {"ledger"},
    "tollwire.end_taken_v1": set(),
    "tollwire.recover_restored_v1": {"ledger"},
    "tollwire.start_scheduled_v1": {"ledger"},
    "tollwire.recover_claims_v1": {"ledger"},
    "tollwire.finish_v1": set(),
    "tollwire.end_messages_v1": set(),
    "tollwire.keep_traces_v1": {"api"},
    "tollwire.load_traces_v1": {"dlr", "ledger"},
    "tollwire.add_callbacks_v1": set(),
    "tollwire.overtake_callbacks_v1": set(),
    "ledger.expire_holds_v1": {"ledger"},
    "ledger.post_credit_v1": {"api"},
    "ledger.open_account_v1": {"api"},
    "ledger.place_holds_v1": set(),
    "ledger.settle_holds_v1": set(),
    "ledger.system_account_v1": set(),
    "ledger.close_day_v1": {"ledger"},
    "ledger.seal_day_v1": {"ledger"},
}
MONEY = (
    "ledger.accounts",
    "ledger.credit_locks",
    "ledger.entries",
    "ledger.operations",
    "ledger.checkpoints",
    "ledger.seals",
)
FLOW = (
    "tollwire.messages",
    "tollwire.message_states",
    "tollwire.message_texts",
    "tollwire.outbox",
    "tollwire.attempts",
    "tollwire.carrier_references",
    "tollwire.receipts",
    "tollwire.callbacks",
    "tollwire.idempotency_keys",
    "tollwire.dead_letters",
    "tollwire.untold_dead_letters",
    "tollwire.message_traces",
)
GUARDS = (
    "set session_replication_role = replica",
    "alter table ledger.entries disable trigger all",
    "drop table ledger.entries",
    "create table ledger.mine (id int)",
    "create table tollwire.mine (id int)",
    "create function tollwire.mine() returns int language sql as 'select 1'",
    "set role tollwire_owner",
    "set role postgres",
    "grant tollwire_owner to current_user",
)
MAY_EXECUTE = """
    select has_function_privilege($2, p.oid, 'execute')
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname || '.' || p.proname = $1
"""
# Of the roles worker, dlr and readonly: who may read it. A worker gets texts by its claims.
SECRETS: dict[str, set[str]] = {"tollwire.message_texts": set(), "tollwire.callback_secrets": {"dlr"}}


@asynccontextmanager
async def as_role(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn(role))
    try:
        yield connection
    finally:
        await connection.close()


async def is_refused(connection: asyncpg.Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


async def writes(connection: asyncpg.Connection, table: str) -> list[str]:
    sql = "select attname from pg_attribute where attrelid = $1::text::regclass and attnum = 1"
    name = await connection.fetchval(sql, table)
    change = f"update {table} set {name} = {name}"
    return [f"insert into {table} default values", change, f"delete from {table}", f"truncate {table}"]


async def test_no_role_writes_money_or_messages_itself(database: Database) -> None:
    for role in ROLES:
        async with as_role(database, role) as connection:
            for table in (*MONEY, *FLOW):
                for statement in await writes(connection, table):
                    assert await is_refused(connection, statement), (role, statement)


async def test_no_role_takes_the_guards_away(database: Database) -> None:
    for role in ROLES:
        async with as_role(database, role) as connection:
            for statement in GUARDS:
                assert await is_refused(connection, statement), (role, statement)


async def test_a_function_is_for_its_roles_only(database: Database) -> None:
    async with as_role(database, "postgres") as connection:
        for function, callers in CALLS.items():
            for role in ROLES:
                rows = await connection.fetch(MAY_EXECUTE, function, f"tollwire_{role}")
                assert [row[0] for row in rows] == [role in callers], (function, role)


async def test_nobody_may_run_what_is_not_granted_by_name(database: Database) -> None:
    sql = """
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('tollwire', 'ledger') and has_function_privilege('public', p.oid, 'execute')
          and p.prorettype <> 'trigger'::regtype
    """
    async with as_role(database, "postgres") as connection:
        assert [row[0] for row in await connection.fetch(sql)] == []


async def test_every_definer_function_has_a_fixed_search_path(database: Database) -> None:
    sql = """
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('tollwire', 'ledger') and p.prosecdef
          and not coalesce(p.proconfig && array['search_path=pg_catalog, pg_temp'], false)
    """
    async with as_role(database, "postgres") as connection:
        assert [row[0] for row in await connection.fetch(sql)] == []


async def test_a_role_has_its_time_limits(database: Database) -> None:
    sql = """
        select array[current_setting('statement_timeout'), current_setting('transaction_timeout'),
                     current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')]
    """
    for role in ROLES:
        limit = "1min" if role == "readonly" else "5s"
        async with as_role(database, role) as connection:
            assert await connection.fetchval(sql) == [limit, limit, "2s", "5s"], role


async def test_secrets_and_texts_are_read_by_those_who_need_them(database: Database) -> None:
    for role in ("worker", "dlr", "readonly"):
        async with as_role(database, role) as connection:
            for table, readers in SECRETS.items():
                assert await is_refused(connection, f"select * from {table}") != (role in readers), (
                    role,
                    table,
                )


DECIDE = (
    "select * from tollwire.cancel_batch_v1(array[1::bigint], array[$1::uuid])",
    "select * from tollwire.claim_batch_v1(array[$1::uuid], array[1], 1::smallint, 60, $1)",
    "select * from tollwire.expire_due_v1(array[$1::uuid])",
    "select * from tollwire.start_scheduled_v1(array[$1::uuid])",
    "select * from ledger.expire_holds_v1(array[$1::uuid])",
    "select * from tollwire.settle_batch_v1(array[$1::uuid], 1, 1)",
    "select * from ledger.settle_holds_v1(array[$1::uuid], '{capture}', array['x'])",
    "select * from ledger.place_holds_v1('{1}', array[$1::uuid], '{1}', '{1}', '{t}')",
    "select * from ledger.post_credit_v1(1, 'top_up', 1, $1::text, 'test', null)",
)


async def test_money_is_decided_only_at_read_committed(database: Database) -> None:
    async with as_role(database, "postgres") as conn:
        for sql in DECIDE:
            with pytest.raises(asyncpg.InvalidTransactionStateError):
                async with conn.transaction(isolation="repeatable_read"):
                    await conn.fetch(sql, new_id() if "::text" not in sql else "reference")
            with pytest.raises(asyncpg.InvalidTransactionStateError):
                async with conn.transaction(isolation="serializable"):
                    await conn.fetch(sql, new_id() if "::text" not in sql else "reference")


async def test_the_journal_refuses_changes_even_from_its_owner(database: Database) -> None:
    async with open_flow(database) as flow:
        await flow.accepted(await flow.client())
        for sql in (
            "update ledger.entries set amount_micros = 1",
            "delete from ledger.entries",
            "truncate ledger.entries",
            "delete from ledger.operations",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await flow.pool.execute(sql)


async def test_a_hold_is_resolved_once_even_by_its_owner(database: Database) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        (message,) = await flow.accepted(client)
        await flow.cancel(client, [message])
        with pytest.raises(asyncpg.RestrictViolationError):
            await flow.pool.execute("update ledger.credit_locks set state = 'CAPTURED'")
        with pytest.raises(asyncpg.RestrictViolationError):
            await flow.pool.execute("update tollwire.message_states set state = 'QUEUED', final_at = null")
