"""The fixtures that every integration test stands on."""

import asyncpg
import nats
from redis.asyncio import Redis

from embedded.roles import LOGIN_ROLES


async def test_a_database_is_migrated_and_each_role_can_log_in(database):
    for role in LOGIN_ROLES:
        connection = await asyncpg.connect(database.dsn(role.removeprefix("tollwire_")))
        assert await connection.fetchval("select current_user") == role
        assert await connection.fetchval("select to_regnamespace('ledger') is not null")
        await connection.close()


async def test_each_database_is_a_fresh_copy(make_database):
    first, second = make_database(), make_database()
    connection = await asyncpg.connect(first.dsn())
    await connection.execute("create table public.left_over (x int)")
    await connection.close()
    connection = await asyncpg.connect(second.dsn())
    assert await connection.fetchval("select to_regclass('public.left_over')") is None
    await connection.close()


async def test_nats_starts_each_test_without_streams(nats_server):
    connection = await nats.connect(nats_server.url, token=nats_server.token)
    jetstream = connection.jetstream()
    assert await jetstream.streams_info() == []
    await jetstream.add_stream(name="LEFT_OVER", subjects=["left.over"])
    await connection.close()


async def test_nats_lost_the_streams_of_the_test_before(nats_server):
    connection = await nats.connect(nats_server.url, token=nats_server.token)
    assert await connection.jetstream().streams_info() == []
    await connection.close()


async def test_valkey_takes_its_password_and_is_empty(valkey_server):
    async with Redis.from_url(valkey_server.url) as client:
        assert await client.dbsize() == 0
