"""Faults of our own processes: killed, paused, asked to stop, killed at a named place."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence

from shared.runtime.crash_points import VARIABLE
from shared.runtime.loops import cancel_all
from tests.chaos.instance import Instance
from tests.chaos.processes import Keeper

# A process that was started for a crash point reaches it under load within seconds, the rare ones within
# the time that an outcome stays unknown.
CRASH_LIMIT_SECONDS = 60.0


class Fault(ABC):
    """Something that goes wrong, and is made well again.

    Attributes:
        name: what is printed and counted.
        kills: how many processes the strike kills.
        hold_seconds: how long it lasts.
        overlaps: whether the next one may strike before this one is healed.
    """

    name: str
    kills: int = 0
    hold_seconds: float = 0.0
    overlaps: bool = False

    @abstractmethod
    async def strike(self, instance: Instance) -> None:
        """Let it go wrong."""

    async def heal(self, instance: Instance) -> None:  # noqa: B027 - most faults need nothing more
        """Make it well again, as far as that is not the instance's own business."""


class Kill(Fault):
    """SIGKILL to processes at the same moment; they are started again at once."""

    overlaps = True

    def __init__(self, name: str, victims: Sequence[str]) -> None:
        self.name = f"kill {name}"
        self.victims = victims
        self.kills = len(victims)

    async def strike(self, instance: Instance) -> None:
        """Kill."""
        for victim in self.victims:
            instance.keepers[victim].send(signal.SIGKILL)

    async def heal(self, instance: Instance) -> None:
        """Wait until they serve again."""
        await asyncio.gather(*(instance.keepers[victim].ready() for victim in self.victims))


class Pause(Fault):
    """SIGSTOP to processes and all below them, SIGCONT after a while."""

    def __init__(self, name: str, victims: Sequence[str], seconds: float) -> None:
        self.name = f"pause {name} {seconds:.0f} s"
        self.victims = victims
        self.hold_seconds = seconds

    async def strike(self, instance: Instance) -> None:
        """Stop the clock of them."""
        for victim in self.victims:
            instance.keepers[victim].send_to_all(signal.SIGSTOP)

    async def heal(self, instance: Instance) -> None:
        """Let it run on."""
        for victim in self.victims:
            instance.keepers[victim].send_to_all(signal.SIGCONT)
        await asyncio.gather(*(instance.keepers[victim].ready() for victim in self.victims))


class UnfinishedDrain(Exception):  # noqa: N818 - named for what happened
    """A process that was asked to stop did not end well within its grace."""


class Restart(Fault):
    """SIGTERM to one process after the other, each when the one before serves again: a rolling restart."""

    # Kubernetes' default: then it is killed.
    grace_seconds = 30.0

    def __init__(self, name: str, victims: Sequence[str]) -> None:
        self.name = f"rolling restart {name}"
        self.victims = victims

    async def strike(self, instance: Instance) -> None:
        """Restart each.

        Raises:
            UnfinishedDrain: one ended by force, or said that it failed.
        """
        for victim in self.victims:
            keeper = instance.keepers[victim]
            before = len(keeper.deaths)
            keeper.send(signal.SIGTERM)
            death = await keeper.ended(before, self.grace_seconds)
            if death is None or death.exit_code != 0:
                raise UnfinishedDrain(f"{victim}: {death or 'still runs'}")
            await keeper.ready()


class NotHit(Exception):  # noqa: N818 - named for what happened
    """A process was started for a crash point and never came by."""


class Crash(Fault):
    """One process dies at a named place: killed, started for that place, it must die there by itself.

    Its siblings are killed with it and stay down until it serves or is dead: whoever listens first gets the
    carriers' connections and keeps them, and the others would never come by. From then on they serve.
    """

    def __init__(self, point: str, victim: str, siblings: Sequence[str]) -> None:
        self.name = f"crash at {point}"
        self.point = point
        self.victim = victim
        self.kills = len(siblings) + 1
        self._siblings = siblings

    async def strike(self, instance: Instance) -> None:
        """Start the victim anew for the crash point, and wait until it died of it.

        Raises:
            NotHit: it did not.
        """
        keeper, unit = instance.keepers[self.victim], instance.service(self.victim)
        before = len(keeper.deaths)
        unit.extra[VARIABLE] = self.point
        others = [instance.keepers[name] for name in self._siblings if name != self.victim]
        for sibling in (keeper, *others):
            sibling.is_held = sibling is not keeper
            sibling.send(signal.SIGKILL)
        await keeper.ended(before, CRASH_LIMIT_SECONDS)
        await self._serves_or_is_dead(keeper, before + 1)
        for sibling in others:
            sibling.is_held = False
        death = await keeper.ended(before + 1, CRASH_LIMIT_SECONDS)
        unit.extra.pop(VARIABLE)
        if death is None:
            keeper.send(signal.SIGKILL)
            raise NotHit(f"{self.victim} at {self.point}")
        if death.exit_code != -signal.SIGKILL:
            raise NotHit(f"{self.victim} at {self.point}: ended with {death.exit_code}")

    async def _serves_or_is_dead(self, keeper: Keeper, deaths: int) -> None:
        """Wait for either; a point on the way of every turn may be met before it says that it serves."""
        waits = [
            asyncio.create_task(keeper.ready(CRASH_LIMIT_SECONDS)),
            asyncio.create_task(keeper.ended(deaths, CRASH_LIMIT_SECONDS)),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await cancel_all(waits)

    async def heal(self, instance: Instance) -> None:
        """Wait until it and its siblings serve again."""
        await asyncio.gather(*(instance.keepers[name].ready() for name in {self.victim, *self._siblings}))
