"""Accepts as most gateways would: one transaction for each request, over a pool of connections.

    BENCH_DSN=postgresql://… python -m bench.yardsticks.one_transaction PORT

Idempotency row, account locked and charged, message, outbox row, journal line: what Tollwire's accept
keeps of a message, without its limits, prices and chain.
"""

import gc
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import msgspec
import uvloop
from aiohttp import web
from uuid_utils.compat import uuid7

BACKLOG = 2048
CONNECTIONS = 25
PRICE_MICROS = 500
POOL = web.AppKey("pool", asyncpg.Pool)
SCHEMA = """
    create table if not exists accounts (id int primary key, posted bigint not null, held bigint not null, version bigint not null);
    insert into accounts values (1, 1000000000000000, 0, 0) on conflict do nothing;
    create table if not exists keys (account int, key text, fingerprint bytea, message_id uuid, primary key (account, key));
    create table if not exists messages (id uuid primary key, account int, msisdn text, body text, created_at timestamptz);
    create table if not exists outbox (message_id uuid primary key, due_at timestamptz not null);
    create table if not exists entries (account int, version bigint, message_id uuid, amount bigint, primary key (account, version));
"""  # noqa: E501 - a table a line


async def _keep(connection: asyncpg.pool.PoolConnectionProxy, message_id: UUID, key: str, raw: bytes) -> None:
    message = msgspec.json.decode(raw)
    fingerprint = hashlib.sha256(raw).digest()
    async with connection.transaction():
        await connection.execute("insert into keys values (1, $1, $2, $3)", key, fingerprint, message_id)
        version = await connection.fetchval(
            "update accounts set held = held + $1, version = version + 1 "
            "where id = 1 and posted - held >= $1 returning version",
            PRICE_MICROS,
        )
        await connection.execute(
            "insert into messages values ($1, 1, $2, $3, now())", message_id, message["to"], message["text"]
        )
        await connection.execute("insert into outbox values ($1, now() + interval '1 minute')", message_id)
        await connection.execute(
            "insert into entries values (1, $1, $2, $3)", version, message_id, PRICE_MICROS
        )


async def post(request: web.Request) -> web.Response:
    """Accept one message."""
    raw = await request.read()
    message_id = uuid7()
    async with request.app[POOL].acquire() as connection:
        await _keep(connection, message_id, request.headers["Idempotency-Key"], raw)
    body = msgspec.json.encode({"id": str(message_id), "status": "QUEUED"})
    return web.Response(body=body, status=202, content_type="application/json")


async def _pool(app: web.Application) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["BENCH_DSN"], min_size=CONNECTIONS, max_size=CONNECTIONS
    ) as pool:
        async with pool.acquire() as connection:
            await connection.execute(SCHEMA)
        app[POOL] = pool
        yield


def main() -> None:
    """Serve until a signal."""
    app = web.Application()
    app.cleanup_ctx.append(_pool)
    app.router.add_post("/v1/messages", post)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    web.run_app(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=BACKLOG,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
