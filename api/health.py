"""Whether this process lives, and whether it can do its work (RULES 33)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import asyncpg
from msgspec import Meta, Struct

from shared.runtime.postgres import Pool
from shared.storage.schema import READ_SCHEMA, SCHEMA_MIN, is_new_enough

# A probe of Kubernetes waits a second by default.
PROBE_TIMEOUT_SECONDS: Final = 0.8
# Many probes, one query.
FRESH_SECONDS: Final = 0.5


class Part(Struct, frozen=True):
    """One thing that the service depends on."""

    ok: bool
    required: Annotated[bool, Meta(description="Whether the service is unready without it.")]
    detail: str


class Liveness(Struct, frozen=True):
    """The event loop answers."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether requests can be served, and the state of each part."""

    status: Annotated[str, Meta(description="ready, unready, starting or stopping")]
    parts: dict[str, Part]


class NotReady(Exception):  # noqa: N818 - named for what happened
    """Something that the service cannot do without is missing; the text names it."""


class Health:
    """Looks at what the service needs. ``watch`` names what is reported and never decides."""

    def __init__(self, pool: Pool, watch: Mapping[str, Callable[[], bool | None]]) -> None:
        self._pool = pool
        self._watch = watch
        self._seen: Readiness | None = None
        self._seen_at = 0.0
        self._looking = asyncio.Lock()
        self.is_listening = False
        self.is_stopping = False

    async def look(self) -> Readiness:
        """Return the readiness, at most ``FRESH_SECONDS`` old.

        Whoever asks at once shares a look: it takes a place that messages are accepted with, and anybody
        may ask.
        """
        if self.is_stopping or not self.is_listening:
            return Readiness("stopping" if self.is_stopping else "starting", {})
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at > FRESH_SECONDS:
                parts = await self._parts()
                is_ready = all(part.ok for part in parts.values() if part.required)
                self._seen = Readiness("ready" if is_ready else "unready", parts)
                self._seen_at = time.monotonic()
            return self._seen

    async def check(self) -> None:
        """Raise unless ready: for the process's own health port."""
        readiness = await self.look()
        if readiness.status != "ready":
            bad = [f"{name}: {part.detail}" for name, part in readiness.parts.items() if not part.ok]
            raise NotReady("; ".join(bad) or readiness.status)

    async def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):  # for a place in the pool, too
                schema = await self._pool.fetchval(READ_SCHEMA)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            parts["postgres"] = Part(ok=False, required=True, detail=type(error).__name__)
        else:
            parts["postgres"] = Part(ok=True, required=True, detail="answers")
            detail = f"{schema}, needs {SCHEMA_MIN} or newer"
            parts["schema"] = Part(ok=is_new_enough(schema), required=True, detail=detail)
        for name, look in self._watch.items():
            is_connected = look()
            detail = {True: "answers", False: "does not answer", None: "not used"}[is_connected]
            parts[name] = Part(ok=is_connected is not False, required=False, detail=detail)
        return parts
