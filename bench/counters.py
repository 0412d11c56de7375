"""What processes and PostgreSQL counted: calls and commits, to be divided by messages."""

import http.client
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from bench.instance import Instance

ASK_SECONDS: Final = 5.0
_CALLS: Final = re.compile(r'^tollwire_db_call_seconds_count\{function="([^"]+)"\} (\S+)$', re.MULTILINE)
# A session tells its commits a second late, or when it is asked something next.
_COMMITS: Final = "select xact_commit from pg_stat_database where datname = current_database()"


def server_calls(made: Instance) -> dict[str, float]:
    """How often each server function was called by any service: its flushes."""
    found: dict[str, float] = defaultdict(float)
    for name, launch in made.launches.items():
        if name in made.units:
            for function, count in _CALLS.findall(_metrics(launch.health_port)):
                found[function] += float(count)
    return dict(found)


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def per_message(before: Mapping[str, float], after: Mapping[str, float], messages: int) -> dict[str, float]:
    """Calls of each function a message, between two looks."""
    return {name: (count - before.get(name, 0.0)) / messages for name, count in after.items()}


async def commits(made: Instance) -> int:
    """Transactions that PostgreSQL has committed, whoever's."""
    return int(await made.value(_COMMITS))
