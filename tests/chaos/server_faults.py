"""Faults of PostgreSQL, NATS and Valkey."""

import asyncio
import os
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import redis.asyncio

from embedded.valkey import ValkeyServer
from tests.chaos.faults import Fault
from tests.chaos.instance import Instance
from tests.chaos.processes import children_of
from tests.chaos.proxy import ProxyControl
from tests.chaos.topology import STANDBY, StandbyServer

# A commit that was asked for reaches the disk within it, while its answer is kept back.
SWALLOW_SECONDS = 0.2
# From the first repeated request to the strike.
STORM_SECONDS = 0.5
# What a quick operator, or Patroni with its defaults cut down, needs to notice.
PROMOTED_AFTER_SECONDS = 5.0


class KillServer(Fault):
    """SIGKILL to a server and all below it; it is started again at once, or after a while."""

    def __init__(self, server: str, down_seconds: float = 0.0) -> None:
        self.name = f"kill {server}" + (f" {down_seconds:.0f} s" if down_seconds else "")
        self.server = server
        self.hold_seconds = down_seconds

    async def strike(self, instance: Instance) -> None:
        """Kill, and hold it down."""
        keeper = instance.keepers[self.server]
        keeper.is_held = True
        before = len(keeper.deaths)
        keeper.send_to_all(signal.SIGKILL)
        await keeper.ended(before, limit_seconds=10.0)

    async def heal(self, instance: Instance) -> None:
        """Let it start, and wait until it serves."""
        keeper = instance.keepers[self.server]
        keeper.is_held = False
        await keeper.ready()


class KillBackend(Fault):
    """SIGKILL to one of PostgreSQL's backends: the postmaster ends all others and recovers."""

    name = "kill a backend of postgresql"

    def __init__(self, drawn: random.Random) -> None:
        self._drawn = drawn

    async def strike(self, instance: Instance) -> None:
        """Kill any one child."""
        pid = instance.postgres.child.pid
        children = children_of(pid) if pid is not None else []
        if children:
            os.kill(self._drawn.choice(children), signal.SIGKILL)

    async def heal(self, instance: Instance) -> None:
        """Wait until it takes connections again."""
        await instance.keepers["postgresql"].ready()


class CutCommit(Fault):
    """Answers of PostgreSQL are kept back, then every connection is cut: commits of unknown outcome."""

    name = "cut postgresql during commit"

    def __init__(self, proxy: ProxyControl, away_seconds: float) -> None:
        self._proxy = proxy
        self.hold_seconds = away_seconds

    async def strike(self, instance: Instance) -> None:
        """Keep answers back, then cut."""
        self._proxy.swallow_answers()
        await asyncio.sleep(SWALLOW_SECONDS)
        self._proxy.cut()

    async def heal(self, instance: Instance) -> None:
        """Let connections through again."""
        self._proxy.heal()


class WipeNats(KillServer):
    """NATS is killed, and all its streams with their messages are gone when it starts again."""

    def __init__(self, down_seconds: float = 0.0) -> None:
        super().__init__("nats", down_seconds)
        self.name = "wipe nats"

    async def strike(self, instance: Instance) -> None:
        """Kill and wipe."""
        await super().strike(instance)
        shutil.rmtree(jetstream_of(instance))


class RestoreNats(KillServer):
    """NATS comes back with a store of a while ago: what was done since stands in it as work to do."""

    def __init__(self, age_seconds: float) -> None:
        super().__init__("nats")
        self.name = f"restore nats of {age_seconds:.0f} s ago"
        self.hold_seconds = age_seconds

    async def strike(self, instance: Instance) -> None:
        """Take a copy of the store, as it stands after a kill, and go on."""
        await super().strike(instance)
        copy = self._copy(instance)
        shutil.rmtree(copy, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, jetstream_of(instance), copy)
        await super().heal(instance)

    async def heal(self, instance: Instance) -> None:
        """Kill again, put the copy in the place of the store, start."""
        await super().strike(instance)
        shutil.rmtree(jetstream_of(instance))
        self._copy(instance).rename(jetstream_of(instance))
        await super().heal(instance)

    def _copy(self, instance: Instance) -> Path:
        return instance.folder / "nats-copy"


class WipeValkey(KillServer):
    """Valkey is killed, and with it goes all that it held: it keeps nothing on disk."""

    def __init__(self) -> None:
        super().__init__("valkey")
        self.name = "wipe valkey"


class FlushValkey(Fault):
    """Valkey stays, and forgets everything."""

    name = "flush valkey"

    async def strike(self, instance: Instance) -> None:
        """Empty it."""
        unit = instance.keepers["valkey"].unit
        if not isinstance(unit, ValkeyServer):
            raise TypeError("this plan needs a Valkey")
        async with redis.asyncio.from_url(unit.url) as client:
            await client.flushall()


class Storm(Fault):
    """The latest 10,000 keys are asked for once more at one moment, and amid that something else happens."""

    def __init__(self, inner: Fault) -> None:
        self.name = f"{inner.name} in a storm of repeats"
        self.hold_seconds = inner.hold_seconds
        self._inner = inner

    async def strike(self, instance: Instance) -> None:
        """Begin the storm, then strike."""
        instance.keepers["load"].send(signal.SIGUSR1)
        await asyncio.sleep(STORM_SECONDS)
        await self._inner.strike(instance)

    async def heal(self, instance: Instance) -> None:
        """Heal what was struck."""
        await self._inner.heal(instance)


class FailOver(Fault):
    """The primary is gone for good, and a while later the standby is promoted."""

    name = "fail over to the standby"

    async def strike(self, instance: Instance) -> None:
        """Kill the primary, hold it down, promote the standby."""
        primary, standby = instance.keepers["postgresql"], instance.keepers[STANDBY].unit
        if not isinstance(standby, StandbyServer):
            raise TypeError(standby.name)
        primary.is_held = True
        primary.send_to_all(signal.SIGKILL)
        await asyncio.sleep(PROMOTED_AFTER_SECONDS)
        await standby.promote()
        instance.primary = STANDBY


class FillDisk(Fault):
    """PostgreSQL's disk is full for a while."""

    name = "fill the disk of postgresql"

    def __init__(self, seconds: float) -> None:
        self.hold_seconds = seconds

    async def strike(self, instance: Instance) -> None:
        """Fill it."""
        await asyncio.to_thread(_fill, self._ballast(instance))

    async def heal(self, instance: Instance) -> None:
        """Make room, and wait until PostgreSQL serves."""
        self._ballast(instance).unlink()
        await instance.keepers["postgresql"].ready()

    def _ballast(self, instance: Instance) -> Path:
        return instance.folder / "postgresql" / "ballast"


def _fill(file: Path) -> None:
    chunk = b"\0" * 2**20
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(chunk):
            pass


def jetstream_of(instance: Instance) -> Path:
    """The folder of the streams."""
    return instance.keepers["nats"].unit.folder / "jetstream"
