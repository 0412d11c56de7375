"""The connection to Valkey that runs the limits' script: short timeouts, no retries, nothing that lasts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Counter, Histogram
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from api.limit_script import LIMIT_SCRIPT
from api.limits import RunScript
from shared.runtime.metrics import SECONDS_BUCKETS

SECONDS: Final = Histogram(
    "tollwire_valkey_call_seconds", "One call of the limits' script", buckets=SECONDS_BUCKETS
)
ERRORS: Final = Counter("tollwire_valkey_errors_total", "Calls of the limits' script that failed")

# Beyond the waiters' own deadline nobody waits for the answer any more.
ANSWER_SECONDS: Final = 0.25
CONNECT_SECONDS: Final = 1.0
# One for each flush in flight (limits.FLUSHES_IN_FLIGHT).
CONNECTIONS_MAX: Final = 2


@asynccontextmanager
async def open_script(url: str) -> AsyncIterator[RunScript | None]:
    """Return what runs the script at this Valkey or Redis; None for an empty URL.

    Connects when it is first used, and again whenever it has to: a Valkey that is away is no error here.
    """
    if not url:
        yield None
        return
    scheme, _, rest = url.partition("://")
    client = Redis.from_url(
        f"{scheme.replace('valkey', 'redis')}://{rest}",
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        max_connections=CONNECTIONS_MAX,
        retry=Retry(NoBackoff(), 0),
    )
    script = client.register_script(LIMIT_SCRIPT)

    async def run(argument: bytes) -> bytes:
        with SECONDS.time(), ERRORS.count_exceptions():
            answer: bytes = await script(args=[argument])
        return answer

    try:
        yield run
    finally:
        await client.aclose()
