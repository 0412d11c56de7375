"""A server that has run for a while writes over WAL files that it has; a new one makes each, on the way."""

from typing import Final

import asyncpg

# 960 MB, enough for 160,000 messages: no scenario of a few minutes makes a file of its own. Each takes some
# 60 ms to make, and whoever commits meanwhile waits.
FILES: Final = 60
KEEP: Final = ("alter system set min_wal_size = '1GB'", "select pg_reload_conf()")
FILL: Final = "select pg_logical_emit_message(true, 'bench', 'x'), pg_switch_wal()"


async def make_wal_files(dsn: str) -> None:
    """Leave WAL files behind for the server to write over, as checkpoints of days do.

    Args:
        dsn: of the superuser.
    """
    connection = await asyncpg.connect(dsn)
    try:
        for sql in KEEP:
            await connection.execute(sql)
        for _ in range(FILES):
            await connection.execute(FILL)
        await connection.execute("checkpoint")
    finally:
        await connection.close()
