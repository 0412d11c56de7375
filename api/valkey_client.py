"""Valkey or Redis as the settings name it: one server, one that sentinels name, or a cluster.

redis-py has a URL for the first alone; for the others the scheme says it: ``redis+sentinel://user:password@
host:26379,host:26379/NAME/0`` and ``redis+cluster://host:6379,host:6379``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError

from shared.runtime import settings
from shared.runtime.postgres_dsn import split_dsn
from shared.runtime.server_settings import ValkeyAccess
from shared.runtime.tls import tls_hint

# Beyond the waiters' own deadline nobody waits for the answer any more.
ANSWER_SECONDS: Final = 0.25
CONNECT_SECONDS: Final = 1.0
# One for each flush in flight (limits.FLUSHES_IN_FLIGHT).
CONNECTIONS_MAX: Final = 2
# In a cluster each flush asks for several shards at once; this is for each of its servers.
CLUSTER_CONNECTIONS_MAX: Final = 16
# A cluster says "moved" to who asks the wrong server; the second try asks the right one.
CLUSTER_RETRIES: Final = 1
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
PREFIX: Final = f"{settings.PREFIX}VALKEY"

Client: TypeAlias = Redis | RedisCluster


@asynccontextmanager
async def open_client(access: ValkeyAccess) -> AsyncIterator[Client]:
    """Open a client, which connects when it is first used."""
    url = split_dsn(access.valkey_url)
    sentinels: list[Redis] = []
    if url.scheme.endswith("+cluster"):
        client: Client = _cluster(url, access)
    elif url.scheme.endswith("+sentinel"):
        client, sentinels = _by_sentinels(url, access)
    else:
        scheme = url.scheme.replace("valkey", "redis")
        client = Redis.from_url(
            url._replace(scheme=scheme).geturl(),
            max_connections=CONNECTIONS_MAX,
            **_login(access),
            **(_tls(access) if scheme == "rediss" else {}),
            **_timing(0),
        )
    try:
        yield client
    finally:
        for one in (client, *sentinels):
            await one.aclose()
        if isinstance(client, RedisCluster):
            # A client that never got to know its cluster thinks that it has nothing to close.
            for nodes in ("startup_nodes", "nodes_cache"):
                await client.nodes_manager.aclose(nodes)


def _cluster(url: SplitResult, access: ValkeyAccess) -> Client:
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts_of(url, DEFAULT_PORT)],
        # One part of the cluster that is away must not take the limits of the others with it.
        require_full_coverage=False,
        max_connections=CLUSTER_CONNECTIONS_MAX,
        **_login(access, url),
        **_with_ssl(url, access),
        **_timing(CLUSTER_RETRIES),
    )


def _by_sentinels(url: SplitResult, access: ValkeyAccess) -> tuple[Client, list[Redis]]:
    """The client of whichever server the sentinels name, and the clients of the sentinels themselves."""
    name, _, number = url.path.strip("/").partition("/")
    tls = _with_ssl(url, access)
    own: dict[str, Any] = {**tls, **_timing(0)}
    if access.valkey_sentinel_password:
        own["password"] = access.valkey_sentinel_password
    make: Any = Sentinel
    sentinel = make(hosts_of(url, SENTINEL_PORT), sentinel_kwargs=own, **tls, **_timing(0))
    primary: Redis = sentinel.master_for(
        name, db=int(number or 0), max_connections=CONNECTIONS_MAX, **_login(access, url)
    )
    return primary, list(sentinel.sentinels)


def hosts_of(url: SplitResult, port: int) -> list[tuple[str, int]]:
    """Return the hosts of a URL that names several, with their ports."""
    hosts = []
    for text in url.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text.strip()}")
        hosts.append((one.hostname or "", one.port or port))
    return hosts


def _login(access: ValkeyAccess, url: SplitResult | None = None) -> dict[str, Any]:
    """Who we are; what stands in the URL wins."""
    user, _, password = (url.netloc.rpartition("@")[0] if url is not None else "").partition(":")
    return {
        "username": unquote(user) or access.valkey_user or None,
        "password": unquote(password) or access.valkey_password or None,
    }


def _with_ssl(url: SplitResult, access: ValkeyAccess) -> dict[str, Any]:
    return {"ssl": True, **_tls(access)} if url.scheme.startswith(("rediss", "valkeys")) else {}


def _tls(access: ValkeyAccess) -> dict[str, Any]:
    return {
        "ssl_ca_certs": access.valkey_ca_file or None,
        "ssl_certfile": access.valkey_cert_file or None,
        "ssl_keyfile": access.valkey_key_file or None,
        "ssl_check_hostname": access.valkey_tls in {"", "verify-full"},
        "ssl_cert_reqs": "none" if access.valkey_tls == "require" else "required",
    }


def _timing(retries: int) -> dict[str, Any]:
    return {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), retries),
    }


def valkey_hint(error: BaseException) -> str | None:
    """Say what an operator does about an error, by the settings' names; None: nothing is set wrongly."""
    if hint := tls_hint(error, PREFIX):
        return hint
    if isinstance(error, AuthenticationError):
        return f"Valkey refuses the login: {PREFIX}_URL, {PREFIX}_USER and {PREFIX}_PASSWORD"
    if isinstance(error, NoPermissionError):
        return "the ACL user may not run the limits' script: it needs ~tw:* +@scripting +@read +@write +time"
    return None
