"""PostgreSQL goes back to an earlier moment: it is restored, and `tollwire recover` decides."""

import asyncio
import signal
import sys
from datetime import datetime

import asyncpg

from tests.chaos.archive import put_back
from tests.chaos.faults import Fault
from tests.chaos.instance import SERVICES, Instance
from tests.chaos.processes import environ_of_ours

ARCHIVED_LIMIT_SECONDS = 20.0
RECOVER_SECONDS = 120.0
LOOK_SECONDS = 0.1
# What goes on in the world that the database will not remember.
FORGOTTEN_SECONDS = 6.0
ARCHIVED = "select coalesce(last_archived_wal, '') from pg_stat_archiver"


class RecoverFailed(Exception):  # noqa: N818 - named for what happened
    """`tollwire recover` did not end with 0."""


class Restore(Fault):
    """Everything of ours and PostgreSQL die; the database comes back as it was some seconds before."""

    name = f"restore postgresql of {FORGOTTEN_SECONDS:.0f} s ago and recover"

    async def strike(self, instance: Instance) -> None:
        """Let some seconds pass, archive them, kill, restore, recover.

        Raises:
            RecoverFailed: the command failed.
        """
        moment = await _ask(instance, "select clock_timestamp()")
        await asyncio.sleep(FORGOTTEN_SECONDS)
        await _archive(instance)
        ours = [keeper for service in SERVICES for keeper in instance.of(service)]
        database = instance.keepers["postgresql"]
        for keeper in (*ours, database):
            keeper.is_held = True
            keeper.send_to_all(signal.SIGKILL)
        await asyncio.gather(*(keeper.gone() for keeper in (*ours, database)))
        await asyncio.to_thread(put_back, instance.postgres, moment)
        database.is_held = False
        await database.ready()
        await _recover(instance, moment)
        for keeper in ours:
            keeper.is_held = False

    async def heal(self, instance: Instance) -> None:
        """Wait until all serve again."""
        await asyncio.gather(*(keeper.ready() for service in SERVICES for keeper in instance.of(service)))


async def _ask(instance: Instance, sql: str) -> datetime:
    connection = await asyncpg.connect(instance.dsn("postgres"))
    try:
        answer = await connection.fetchval(sql)
    finally:
        await connection.close()
    if not isinstance(answer, datetime):
        raise TypeError(sql)
    return answer


async def _archive(instance: Instance) -> None:
    connection = await asyncpg.connect(instance.dsn("postgres"))
    try:
        last = await connection.fetchval("select pg_walfile_name(pg_switch_wal())")
        async with asyncio.timeout(ARCHIVED_LIMIT_SECONDS):
            while await connection.fetchval(ARCHIVED) < last:  # noqa: ASYNC110 - a view gives no event
                await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def _recover(instance: Instance, moment: datetime) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "recover", "--restored-to", moment.isoformat(),
        "--dsn", instance.dsn("tollwire_ledger"), "--list", str(instance.folder / "recovered.csv"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=instance.folder,
        env=environ_of_ours()
        | {"TOLLWIRE_NATS_URL": instance.nats[0].url, "TOLLWIRE_NATS_TOKEN": instance.nats[0].token},
    )  # fmt: skip
    async with asyncio.timeout(RECOVER_SECONDS):
        said, _ = await process.communicate()
    (instance.folder / "recovered.txt").write_bytes(said)
    print(said.decode(errors="replace"), flush=True)
    if process.returncode != 0:
        raise RecoverFailed(said.decode(errors="replace"))
