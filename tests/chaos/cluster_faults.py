"""Faults of three NATS servers: the leader is killed, stands still, or is parted from the others."""

import asyncio
import signal
import time
from collections.abc import Sequence

import nats
import nats.errors
from nats.js.api import StreamInfo

from embedded.nats import NatsServer
from tests.chaos.faults import Fault
from tests.chaos.instance import Instance

STREAM = "SMS_SEND"
ANSWER_SECONDS = 2.0
LOOK_SECONDS = 0.2
# After a heal every server has what the leader has within it.
JOINED_LIMIT_SECONDS = 60.0


class KillLeader(Fault):
    """The NATS server that leads the stream of work is killed, or stands still: the others elect another."""

    def __init__(self, pause_seconds: float = 0.0) -> None:
        self.name = (
            f"pause the leader of nats {pause_seconds:.0f} s" if pause_seconds else "kill the leader of nats"
        )
        self.hold_seconds = pause_seconds
        self._victim = ""

    async def strike(self, instance: Instance) -> None:
        """Find it and strike."""
        self._victim = await leader_of(instance.nats) or instance.nats_names[0]
        instance.keepers[self._victim].send(signal.SIGSTOP if self.hold_seconds else signal.SIGKILL)

    async def heal(self, instance: Instance) -> None:
        """Let it run on, and wait until it serves."""
        instance.keepers[self._victim].send(signal.SIGCONT)
        await instance.keepers[self._victim].ready()


class NotParted(Exception):  # noqa: N818 - named for what happened
    """The cluster did not behave as one that is parted, or never joined again."""


class Part(Fault):
    """One of three servers is alone for a while: the leader of the stream of work, or one of the others.

    Clients reach all three, and stay where they are. The two others elect a leader; who is alone can write
    nothing, and whoever is connected to it gets no answer.
    """

    def __init__(self, seconds: float, *, is_leader: bool, is_silent: bool) -> None:
        who = "the leader" if is_leader else "a follower"
        how = "silently" if is_silent else "with its connections cut"
        self.name = f"part {who} of nats {seconds:.0f} s, {how}"
        self.hold_seconds = seconds
        self._is_leader = is_leader
        self._is_silent = is_silent
        self._alone = ""
        self._passed_bytes = 0

    async def strike(self, instance: Instance) -> None:
        """Find the leader, and part."""
        if instance.mesh is None:
            raise NotParted("this plan needs a cluster")
        leader = await leader_of(instance.nats) or instance.nats_names[0]
        others = [name for name in instance.nats_names if name != leader]
        self._alone = leader if self._is_leader else others[0]
        instance.mesh.part(self._alone, is_silent=self._is_silent)
        await asyncio.sleep(LOOK_SECONDS)
        self._passed_bytes = instance.mesh.passed_bytes(self._alone)

    async def heal(self, instance: Instance) -> None:
        """Look whether it was parted, join, and wait until all three are level again.

        Raises:
            NotParted: bytes went between, the two did not elect a leader, or all three are not level in time.
        """
        if instance.mesh is None:
            raise NotParted("this plan needs a cluster")
        passed_bytes = instance.mesh.passed_bytes(self._alone) - self._passed_bytes
        two = [node for node in instance.nats if node.name != self._alone]
        elected = await leader_of(two)
        alone = await leader_of([node for node in instance.nats if node.name == self._alone])
        instance.mesh.heal()
        if passed_bytes or alone or elected in {None, self._alone}:
            raise NotParted(
                f"{passed_bytes} bytes went between; the two are led by {elected}, {self._alone} by {alone}"
            )
        await joined(instance)


async def leader_of(nodes: Sequence[NatsServer]) -> str | None:
    """Who leads the stream of work, as these servers see it; None when they cannot answer."""
    info = await _ask(nodes)
    return info.cluster.leader if info is not None and info.cluster is not None else None


async def joined(instance: Instance) -> None:
    """Wait until every server has what the leader has.

    Raises:
        NotParted: they have not within a minute.
    """
    until = time.monotonic() + JOINED_LIMIT_SECONDS
    while time.monotonic() < until:
        info = await _ask(instance.nats)
        replicas = info.cluster.replicas if info is not None and info.cluster is not None else None
        if replicas and all(replica.current for replica in replicas):
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise NotParted("the three were not level a minute after they were joined")


async def _ask(nodes: Sequence[NatsServer]) -> StreamInfo | None:
    try:
        connection = await nats.connect(
            [node.url for node in nodes], token=nodes[0].token, allow_reconnect=False
        )
    except (nats.errors.Error, OSError):
        return None
    try:
        return await connection.jetstream(timeout=ANSWER_SECONDS).stream_info(STREAM)
    except (nats.errors.Error, OSError, TimeoutError):
        return None
    finally:
        await connection.close()
