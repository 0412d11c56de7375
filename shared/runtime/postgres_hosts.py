"""Finding the server among the hosts of a DSN, when one of them says nothing."""

import asyncio
import time
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlencode

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from shared.runtime.postgres_dsn import split_dsn
from shared.runtime.server_calls import CONNECT_SECONDS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Where a standby is preferred: the part of the time that is kept for the primary, when no standby answers.
_PRIMARY_SHARE: Final = 1 / 3
# What a host says that is away, starts or stops. A refusal of the login is no such word: it is told at once.
_AWAY: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)


class Hosts:
    """The hosts of one DSN, in the order in which they are asked.

    asyncpg gives all hosts one time-out together, so that a first one that says nothing (its machine is
    gone, its processes are frozen) takes all of it, each time. Here each has its share of what is left. Who
    answered is asked first the next time, and who did not, last.
    """

    def __init__(self, dsn: str) -> None:
        parts = split_dsn(dsn)
        self._dsns = list(dict.fromkeys(_by_host(dsn, parts)))
        wanted = dict(parse_qsl(parts.query)).get("target_session_attrs")
        self._prefers_standby = wanted == SessionAttribute.prefer_standby.value

    async def connect(
        self,
        *,
        timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109 - asyncpg's own name: a pool calls this
        target_session_attrs: SessionAttribute | None = None,
        **options: Any,
    ) -> Connection:
        """Connect as ``asyncpg.connect`` does, to the first host that answers and is what is wanted.

        Args:
            timeout: seconds for all hosts together.
            target_session_attrs: what is wanted; None: what the DSN says.
            options: of ``asyncpg.connect``.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched: what the last host said
                that said anything, or TimeoutError.
        """
        target = target_session_attrs
        until = time.monotonic() + timeout
        prefers_standby = target is SessionAttribute.prefer_standby or (not target and self._prefers_standby)
        if not prefers_standby or len(self._dsns) == 1:
            return await self._first(until, target, options)
        try:
            return await self._first(until - timeout * _PRIMARY_SHARE, SessionAttribute.standby, options)
        except (*_AWAY, asyncpg.TargetServerAttributeNotMatched):
            return await self._first(until, SessionAttribute.any, options)

    async def _first(
        self, until: float, target: SessionAttribute | None, options: dict[str, Any]
    ) -> Connection:
        failures: list[Exception] = []
        dsns = tuple(self._dsns)
        for place, dsn in enumerate(dsns):
            share_seconds = max(until - time.monotonic(), 0.0) / (len(dsns) - place)
            try:
                connection: Connection = await asyncpg.connect(
                    dsn, timeout=share_seconds, target_session_attrs=target, **options
                )
            except asyncpg.TargetServerAttributeNotMatched as error:
                failures.append(error)
            except _AWAY as error:
                self._put(dsn, len(dsns))
                failures.append(error)
            except asyncio.CancelledError:
                self._put(dsn, len(dsns))  # whoever waits less than a share finds the next one the next time
                raise
            else:
                self._put(dsn, 0)
                return connection
        words = [failure for failure in failures if not isinstance(failure, TimeoutError)]
        raise (words or failures)[-1]

    def _put(self, dsn: str, place: int) -> None:
        self._dsns.remove(dsn)
        self._dsns.insert(place, dsn)


async def connect(dsn: str, **options: Any) -> Connection:
    """Connect once; as ``Hosts.connect``."""
    return await Hosts(dsn).connect(**options)


def _by_host(dsn: str, parts: SplitResult) -> list[str]:
    """A DSN for each host, wherever the hosts stand; all else is asyncpg's to read."""
    user, at, hosts = parts.netloc.rpartition("@")
    if hosts:
        each = [parts._replace(netloc=f"{user}{at}{host}") for host in hosts.split(",")]
    else:
        each = _by_host_of_query(parts)
    return [dsn] if len(each) == 1 else [one.geturl() for one in each]


def _by_host_of_query(parts: SplitResult) -> list[SplitResult]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    hosts = query.pop("host", "").split(",")
    ports = query.pop("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        return [parts]  # asyncpg says what is wrong with it
    return [
        parts._replace(query=urlencode(query | {"host": host} | ({"port": port} if port else {})))
        for host, port in zip(hosts, ports, strict=True)
    ]
