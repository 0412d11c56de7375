"""Runs the limits' script at Valkey: on one server for all asks, in a cluster once for each shard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from api.limit_script import LIMIT_SCRIPT
from api.limit_shards import join_shards, split_into_shards
from api.limits import RunScript
from api.valkey_client import Client, open_client, valkey_hint
from shared.runtime.metrics import SECONDS_BUCKETS
from shared.runtime.server_settings import ValkeyAccess

SECONDS: Final = Histogram(
    "tollwire_valkey_call_seconds", "One call of the limits' script", buckets=SECONDS_BUCKETS
)
ERRORS: Final = Counter("tollwire_valkey_errors_total", "Calls of the limits' script that failed")

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_script(access: ValkeyAccess) -> AsyncIterator[RunScript | None]:
    """Return what runs the script at the Valkey or Redis of the settings; None when there is none.

    Connects when it is first used, and again whenever it has to: a Valkey that is away is no error here.
    One that refuses us is logged, with the name of the setting that mends it.
    """
    if not access.valkey_url:
        yield None
        return
    async with open_client(access) as client:
        script = _Script(client)
        yield script.run_in_cluster if isinstance(client, RedisCluster) else script.run


class _Script:
    def __init__(self, client: Client) -> None:
        self._script: Any = client.register_script(LIMIT_SCRIPT)
        self._last_hint = ""

    async def run(self, argument: bytes) -> bytes:
        """Run it on the one server."""
        return await self._told([], argument)

    async def run_in_cluster(self, argument: bytes) -> bytes:
        """Run it for each shard of the subjects, where the shard lives, all at once."""
        shards = split_into_shards(argument)
        asked = [self._told([shard.tag], shard.argument) for shard in shards]
        # All are waited for: one that fails must not leave the others running behind our back.
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return join_shards(shards, [_answer(answer) for answer in answers])

    async def _told(self, keys: list[str], argument: bytes) -> bytes:
        try:
            with SECONDS.time(), ERRORS.count_exceptions():
                answer: bytes = await self._script(keys=keys, args=[argument])
        except (RedisError, OSError) as error:
            self._tell(valkey_hint(error))
            raise
        except AttributeError as error:
            # redis-py's own: of two that meet a cluster anew, one closes the connection that the other has.
            raise ConnectionLost("the connection was closed meanwhile") from error
        return answer

    def _tell(self, hint: str | None) -> None:
        """Log what can be mended, once: the limits ask again every second."""
        if hint is not None and hint != self._last_hint:
            self._last_hint = hint
            _log.error("valkey refuses us; limits are local", hint=hint)


def _answer(answer: bytes | BaseException) -> bytes:
    if isinstance(answer, BaseException):
        raise answer
    return answer
