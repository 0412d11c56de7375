"""Valkey or Redis: that it answers, that the limits' script may run there, and its version."""

from typing import Any, Final

import redis.exceptions
from redis.asyncio.cluster import RedisCluster

from api.valkey_client import Client, open_client, valkey_hint
from cli.doctor_findings import Finding, note, ok, warning
from cli.doctor_place import Place
from cli.network_trouble import network_trouble
from cli.servers import VALKEY_URL
from shared.runtime.postgres_dsn import split_dsn

# The oldest that is tested: DESIGN 10.
MAJOR_MIN: Final = {"valkey": 8, "redis": 7}
# Nothing depends on it (docs/adr/0009): without it limits are local to each process.
WITHOUT: Final = "Until then every process limits by itself."


async def check_valkey(place: Place) -> list[Finding]:
    """Log in, run a script, read the version."""
    access = place.access
    if not access.valkey_url:
        return [note("valkey", "none is named: limits are local to each process of the API")]
    url = split_dsn(access.valkey_url)
    where = url.netloc.rpartition("@")[2] or url.path
    try:
        async with open_client(access) as client:
            return await _look(client, where)
    except redis.exceptions.AuthenticationError as error:
        text = f"{where} refuses the login: {error}"
        return [warning("valkey", text, f"{valkey_hint(error)}. {WITHOUT}")]
    except redis.exceptions.NoPermissionError as error:
        text = f"{where} does not allow it: {error}"
        return [warning("valkey", text, f"{valkey_hint(error)}. {WITHOUT}")]
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        text, what_to_do = network_trouble(_cause(error))
        helps = valkey_hint(error) or what_to_do or place.starts(VALKEY_URL) or "Start it."
        return [warning("valkey", f"{where} {text}", f"{helps} {WITHOUT}")]


def _cause(error: BaseException) -> BaseException:
    """What the network said, below what redis-py makes of it."""
    below = error.__cause__ or error.__context__
    return error if below is None or isinstance(error, OSError) else _cause(below)


async def _look(client: Client, where: str) -> list[Finding]:
    script: Any = client.register_script("return 1")
    await script(keys=["tw:doctor"])
    about: dict[str, Any] = await client.info("server")
    if isinstance(client, RedisCluster):
        about = next(iter(about.values())) if "redis_version" not in about else about
    flavour = "valkey" if "valkey_version" in about else "redis"
    version = str(about.get(f"{flavour}_version", "0"))
    if int(version.partition(".")[0]) < MAJOR_MIN[flavour]:
        text = f"{where} is {flavour} {version}; {MAJOR_MIN[flavour]} or newer is tested"
        return [warning("valkey", text, "Upgrade it.")]
    return [ok("valkey", f"{flavour} {version} answers at {where}")]
