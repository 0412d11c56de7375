"""A URL of Valkey that names several hosts is read as one that names one."""

import asyncio
from typing import Any, cast

import pytest
from redis.asyncio.cluster import RedisCluster

from api.valkey_client import open_client
from cli.doctor_place import find_place
from cli.doctor_valkey import check_valkey
from embedded.ports import free_port
from shared.runtime.server_settings import ValkeyAccess
from shared.runtime.settings import SettingsError, load


def told(url: str) -> ValkeyAccess:
    return load(ValkeyAccess, {"TOLLWIRE_VALKEY_URL": url})


async def hosts(url: str) -> list[tuple[str, int | str]]:
    """Whom the client of this URL asks first."""
    async with open_client(told(url)) as client:
        if isinstance(client, RedisCluster):
            return [(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()]
        sentinels = cast("Any", client.connection_pool).sentinel_manager.sentinels
        options = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
        return [(option["host"], option["port"]) for option in options]


async def test_brackets_may_stand_behind_another_host() -> None:
    url = "redis+sentinel://ann:p%40w@10.0.0.1:1,[fd00::2]:2,[fd00::3]/main/0"
    assert await hosts(url) == [("10.0.0.1", 1), ("fd00::2", 2), ("fd00::3", 26379)]
    assert await hosts("redis+cluster://[fd00::1],[fd00::2]:7") == [("fd00::1", 6379), ("fd00::2", 7)]


@pytest.mark.parametrize(
    "url",
    [
        "redis://[fd00::1/0",
        "redis://:secret[@a/0",
        "redis://:se/cret@a",
        "redis+sentinel://a,[fd00::2/main",
        "redis+sentinel://a,[b]:1/main",
        "redis+cluster://a:1,b:two",
    ],
)
def test_what_names_no_hosts_is_a_wrong_setting_and_nothing_of_it_is_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^TOLLWIRE_VALKEY_URL: the value \(not shown\) is wrong"):
        told(url)


@pytest.mark.parametrize(
    "url", ["redis://:p%5Bw@[::1]:1/0", "unix://:pw@/run/valkey.sock?db=1", "valkey://a"]
)
def test_what_names_one_server_is_right(url: str) -> None:
    assert told(url).valkey_url == url


def test_doctor_names_all_hosts_of_a_url_that_do_not_answer() -> None:
    named = f"127.0.0.1:{free_port()},[::1]:{free_port()}"
    place = find_place({"TOLLWIRE_VALKEY_URL": f"redis+sentinel://:pw@{named}/main"}, ["api"])
    [found] = asyncio.run(check_valkey(place))
    assert found.text.startswith(named)
