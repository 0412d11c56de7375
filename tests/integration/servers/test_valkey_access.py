"""Valkey with TLS and ACL users, found by sentinels, and as a cluster."""

import asyncio
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.limit_shards import SHARDS, join_shards, split_into_shards
from api.limits import Limits, RunScript
from api.valkey_script import open_script
from embedded.files import write_private
from embedded.ports import free_port
from embedded.unit import running
from embedded.valkey import ValkeyServer, find_valkey
from shared.runtime.gcra import Quota
from shared.runtime.server_settings import ValkeyAccess
from shared.runtime.settings import SettingsError, load
from tests.support.certificates import Authority
from tests.support.hints import first_hint
from tests.support.tls_door import open_door

# A sentinel that stood still for two seconds trusts nobody's clock, and waits for half a minute.
WAIT_SECONDS = 50.0
WORD = "word"
SLOTS = 16_384
TEN = Quota(requests_per_minute=1, burst=10)


def told(url: str, **settings: object) -> ValkeyAccess:
    values = {"valkey_url": url, **settings}
    return load(ValkeyAccess, {f"TOLLWIRE_{name.upper()}": str(value) for name, value in values.items()})


def asks(*subjects: str) -> bytes:
    return msgspec.msgpack.encode([(subject, 60_000_000.0, 10, 1, 0) for subject in subjects])


async def granted(script: RunScript, *subjects: str) -> list[int]:
    return [answer[0] for answer in msgspec.msgpack.decode(await script(asks(*subjects)))]


async def refused(access: ValkeyAccess) -> str:
    with first_hint() as hint:
        async with open_script(access) as script, Limits(script) as limits:
            assert (await limits.take("acme", TEN)).is_allowed  # the process limits by itself
            return await asyncio.wait_for(hint, WAIT_SECONDS)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is about an answer that does not come in time; on a machine that stood still one is late."""
    monkeypatch.setattr("api.valkey_client.ANSWER_SECONDS", 5.0)
    monkeypatch.setattr("api.valkey_client.CONNECT_SECONDS", 5.0)


async def test_tls_with_the_right_authority_and_nobody_elses(
    valkey_server: ValkeyServer, authority: Authority, stranger: Authority
) -> None:
    context = authority.server("127.0.0.1")
    async with open_door(valkey_server.port, context) as (door, port):
        url = valkey_server.url.replace("redis://", "rediss://").replace(str(valkey_server.port), str(port))
        async with open_script(told(url, valkey_ca_file=authority.ca_file)) as script:
            assert script is not None
            assert await granted(script, "tw:l:acme") == [1]
        entered = door.entered
        assert "TOLLWIRE_VALKEY_CA_FILE" in await refused(told(url, valkey_ca_file=stranger.ca_file))
        assert door.entered == entered
    with pytest.raises(SettingsError, match="TOLLWIRE_VALKEY_URL: it must begin with rediss"):
        told(valkey_server.url, valkey_ca_file=authority.ca_file)


async def test_an_expired_certificate_is_called_so(valkey_server: ValkeyServer, authority: Authority) -> None:
    async with open_door(valkey_server.port, authority.server("127.0.0.1", valid_days=-1)) as (_, port):
        url = f"rediss://127.0.0.1:{port}/0"
        assert "has expired" in await refused(told(url, valkey_ca_file=authority.ca_file))


async def test_an_acl_user_gets_in_with_its_password_and_may_do_no_more_than_it_must(
    valkey_server: ValkeyServer,
) -> None:
    rules = [
        "on",
        ">word",
        "~tw:*",
        "-@all",
        "+eval",
        "+evalsha",
        "+script|load",
        "+time",
        "+get",
        "+set",
        "+del",
    ]
    client: Any
    async with Redis.from_url(valkey_server.url) as client:
        await client.execute_command("ACL", "SETUSER", "tollwire", "reset", *rules)
        await client.execute_command("ACL", "SETUSER", "nobody", "reset", "on", ">word")
    url = f"redis://127.0.0.1:{valkey_server.port}/0"
    async with open_script(told(url, valkey_user="tollwire", valkey_password="word")) as script:
        assert script is not None
        assert await granted(script, "tw:l:acme") == [1]
    wrong = await refused(told(url, valkey_user="tollwire", valkey_password="other"))
    assert "TOLLWIRE_VALKEY_PASSWORD" in wrong
    assert "ACL user may not" in await refused(told(url, valkey_user="nobody", valkey_password="word"))


class Told(ValkeyServer):
    """A Valkey with more lines in its configuration and a password of our choice, or a sentinel."""

    def __init__(self, folder: Path, *lines: str, is_sentinel: bool = False) -> None:
        program = find_valkey()
        assert program is not None
        super().__init__(folder, program=program)
        self._lines = lines
        self._is_sentinel = is_sentinel

    def prepare(self) -> None:
        """Write the configuration."""
        write_private(self.folder / "password.secret", WORD)
        super().prepare()
        file = self.folder / "valkey.conf"
        head = f"bind 127.0.0.1\nport {self.port}" if self._is_sentinel else file.read_text()
        write_private(file, "\n".join([head, *self._lines, ""]))

    def launch(self) -> None:
        """Start it."""
        mode = ["--sentinel"] if self._is_sentinel else []
        command = [str(self.program.path), str(self.folder / "valkey.conf"), *mode]
        self.child.launch(command, death_signal=signal.SIGTERM)

    def is_ready(self) -> bool:
        """A sentinel asks for no password."""
        if not self._is_sentinel:
            return super().is_ready()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


async def until(run: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Ask a server until it says so; it tells nobody when it comes to it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                if await run() == wanted:
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(0.05)


async def test_sentinels_name_the_server_and_its_successor(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(Told(tmp_path / "a", f"masterauth {WORD}")))
        of_first = f"replicaof 127.0.0.1 {first.port}"
        second = await stack.enter_async_context(
            running(Told(tmp_path / "b", f"masterauth {WORD}", of_first))
        )
        sentinel = await stack.enter_async_context(
            running(
                Told(
                    tmp_path / "s",
                    f"sentinel monitor limits 127.0.0.1 {first.port} 1",
                    f"sentinel auth-pass limits {WORD}",
                    "sentinel down-after-milliseconds limits 300",
                    "sentinel failover-timeout limits 2000",
                    is_sentinel=True,
                )
            )
        )
        watcher = await stack.enter_async_context(Redis(port=sentinel.port, decode_responses=True))
        replicas = partial(_replicas_in_touch, watcher)
        await until(replicas, 1)
        url = f"redis+sentinel://:{WORD}@127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/limits/0"
        script = await stack.enter_async_context(open_script(told(url)))
        assert script is not None
        await until(partial(granted, script, "tw:l:acme", "tw:l:other"), [1, 1])
        first.stop()
        await until(partial(granted, script, "tw:l:acme"), [1])
        assert second.port != first.port


async def _replicas_in_touch(watcher: Redis) -> int:
    found = await watcher.sentinel_slaves("limits")
    return sum(one["master-link-status"] == "ok" for one in found)


async def test_a_cluster_shares_the_subjects_and_the_process_goes_on_when_a_part_is_away(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(3):
            lines = ("cluster-enabled yes", f"cluster-port {free_port()}", "cluster-require-full-coverage no")
            nodes.append(await stack.enter_async_context(running(Told(tmp_path / str(number), *lines))))
        clients = [await stack.enter_async_context(Redis.from_url(node.url)) for node in nodes]
        await _join(nodes, clients)
        url = f"redis+cluster://:{WORD}@127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
        script = await stack.enter_async_context(open_script(told(url)))
        assert script is not None
        subjects = [f"tw:l:client:{number}" for number in range(40)]
        await until(partial(_answers, script, *subjects), len(subjects))
        others = [f"tw:l:other:{number}" for number in range(40)]
        for _ in range(10):
            assert await granted(script, *others) == [1] * len(others)
        assert await granted(script, *others) == [0] * len(others)  # each counts by itself
        keys = [await client.dbsize() for client in clients]
        assert sum(keys) == len(subjects) + len(others)
        assert all(keys)


async def _answers(script: RunScript, *subjects: str) -> int:
    return len(await granted(script, *subjects))


async def _join(nodes: Sequence[Told], clients: Sequence[Any]) -> None:
    share = SLOTS // len(nodes) + 1
    for number, client in enumerate(clients):
        slots = number * share, min((number + 1) * share, SLOTS) - 1
        await client.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
        port = int((await client.config_get("cluster-port"))["cluster-port"])
        await clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[number].port, port)
    for client in clients:
        await until(partial(_known_slots, client), SLOTS)


async def _known_slots(client: Any) -> int:
    info = await client.execute_command("CLUSTER INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    found = re.search(r"cluster_slots_ok:(\d+)", text) or re.search(r"'cluster_slots_ok': '(\d+)'", text)
    return int(found.group(1)) if found else 0


def test_shards_are_put_together_in_the_order_of_the_asks() -> None:
    subjects = [f"s{number}" for number in range(100)]
    shards = split_into_shards(asks(*subjects))
    assert 1 < len(shards) <= SHARDS
    answers = []
    for shard in shards:
        keys = [ask[0] for ask in msgspec.msgpack.decode(shard.argument)]
        assert all(key.startswith(shard.tag) for key in keys)
        answers.append(msgspec.msgpack.encode([key.partition("}")[2] for key in keys]))
    assert msgspec.msgpack.decode(join_shards(shards, answers)) == subjects
