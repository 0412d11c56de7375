"""`tollwire listen` as a process: it is started, called by the real poster, and stopped."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import click
import pytest

from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from shared.domain.callback_events import DEFAULT_EVENT_TYPES
from shared.domain.callbacks import Outcome, Posted
from shared.domain.signatures import new_secret, parse_secret
from tests.support.api_rig import open_api, prepare
from tests.support.servers import Database

LAPTOP = CallbackSettings(callback_allow_private=True)
SECRET = new_secret(b"s" * 32)
BODY = b'{"type":"callback.test","data":{"note":"This is a test."}}'
READ_SECONDS = 30


class Listener:
    """A running `tollwire listen`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.notes: list[str] = []
        self.url = ""

    async def until_listening(self) -> None:
        while not self.url:
            note = await self.note()
            assert note, f"it ended before it listened: {self.notes}"
            found = re.search(r"Listening at (\S+)\. ", note)
            self.url = found[1] if found else ""

    async def note(self) -> str:
        """The next line on stderr; empty at the end."""
        assert self.process.stderr
        async with asyncio.timeout(READ_SECONDS):
            line = (await self.process.stderr.readline()).decode()
        self.notes.append(line)
        return line

    async def line(self) -> str:
        """The next line on stdout."""
        assert self.process.stdout
        async with asyncio.timeout(READ_SECONDS):
            return click.unstyle((await self.process.stdout.readline()).decode())

    async def post(self, number: int = 1, secret: str = SECRET) -> Outcome:
        delivery = Delivery(UUID(int=number), 7, self.url, (parse_secret(secret),), BODY)
        async with CallbackPoster(LAPTOP) as poster:
            return await poster.post(delivery)


@asynccontextmanager
async def listener(*arguments: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Listener]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from cli.listen import listen; listen(prog_name='tollwire listen')",
        "--port=0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    try:
        yield Listener(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_callbacks_are_verified_printed_and_counted_until_ctrl_c() -> None:
    async with listener("--secret", SECRET) as it:
        await it.until_listening()
        first, again, forged = await it.post(), await it.post(), await it.post(2, new_secret(b"x" * 32))
        lines = [await it.line() for _ in range(3)]
        it.process.send_signal(signal.SIGINT)
        summary = await it.note()

        assert await it.process.wait() == 0
    assert [outcome.status for outcome in (first, again, forged) if isinstance(outcome, Posted)] == [
        200,
        200,
        401,
    ]
    assert "✓ callback.test" in lines[0]
    assert "the same again, 2 times now" in lines[1]
    assert "✗ bad signature  no signature fits" in lines[2]
    assert summary == "2 verified, 1 seen before, 1 with a bad signature.\n"


async def test_a_program_gets_json_lines_and_an_end_after_so_many() -> None:
    async with listener("--secret", SECRET, "--json", "--count", "1", "--status", "503") as it:
        await it.until_listening()
        outcome = await it.post()
        told = json.loads(await it.line())

        assert await it.process.wait() == 0
    assert isinstance(outcome, Posted)
    assert outcome.status == told["answered"] == 503
    assert (told["verified"], told["event"]) == (True, json.loads(BODY))


async def test_it_ends_when_nobody_reads_what_it_prints_and_has_the_callback_come_again() -> None:
    async with listener("--secret", SECRET, "--json") as it:
        await it.until_listening()
        assert it.process.stdout
        it.process.stdout._transport.close()  # type: ignore[attr-defined] # as head -1 does after its line
        outcome = await it.post()
        async with asyncio.timeout(READ_SECONDS):
            assert await it.process.wait() == 1
        assert isinstance(outcome, Posted)
        assert outcome.status == 503
        assert not await it.note()


async def test_a_port_that_is_taken_is_said_so() -> None:
    async with listener("--secret", SECRET) as it:
        await it.until_listening()
        port = it.url.rsplit(":", 1)[1].strip("/")
        async with listener("--secret", SECRET, "--port", port) as second:
            assert await second.note() == f"Port {port} is taken.\n"
            assert await second.process.wait() == 1


async def test_a_secret_that_is_none_is_refused() -> None:
    async with listener("--secret", "hunter2") as it:
        assert await it.process.wait() == 2


async def test_without_an_instance_and_without_a_secret_it_says_what_to_do(tmp_path: Path) -> None:
    async with listener("--home", str(tmp_path)) as it:
        notes = [await it.note(), await it.note()]

        assert await it.process.wait() == 3
    assert "No Tollwire runs in" in notes[0]
    assert "--secret" in notes[1]


async def test_it_points_the_clients_callbacks_here_and_keeps_the_secret(
    database: Database, tmp_path: Path
) -> None:
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("demo")
        environ = {"TOLLWIRE_API_URL": rig.url, "TOLLWIRE_API_KEY": key, "TOLLWIRE_HOME": str(tmp_path)}
        async with listener(environ=environ) as it:
            await it.until_listening()
            endpoint = (await rig.call("GET", "/v1/callback", key=key)).body
            kept = json.loads((tmp_path / "callback.secret").read_text())
            assert endpoint["url"] == it.url
            assert kept["secret_id"] == endpoint["secrets"][0]["id"]
            outcome = await it.post(1, kept["secret"])
            assert "✓ callback.test" in await it.line()
            assert isinstance(outcome, Posted)

        async with listener(environ=environ) as it:
            await it.until_listening()
        again = json.loads((tmp_path / "callback.secret").read_text())
        assert again == kept, "the second time the kept secret is still the newest"

        await rig.call("POST", "/v1/callback/rotate", key=key, body={"grace_seconds": 0})
        async with listener(environ=environ) as it:
            await it.until_listening()
            rotated = json.loads((tmp_path / "callback.secret").read_text())
            assert rotated["secret"] != kept["secret"]
            endpoint = (await rig.call("GET", "/v1/callback", key=key)).body
            assert [secret["id"] for secret in endpoint["secrets"]] == [rotated["secret_id"]]


@pytest.mark.parametrize("rest", [["message.delivered", "message.sent"], []])
async def test_an_endpoint_of_an_earlier_version_is_pointed_here(
    database: Database, tmp_path: Path, rest: list[str]
) -> None:
    """It may have an event that is offered no more; without any other it is told every final state."""
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("demo")
        body = {"url": "http://127.0.0.1:4000/"}
        assert (await rig.call("PUT", "/v1/callback", key=key, body=body)).status == 201
        async with rig.connection() as conn:
            stored = ["message.queued", *rest]
            await conn.execute("update tollwire.callback_endpoints set events = $1", stored)
        environ = {"TOLLWIRE_API_URL": rig.url, "TOLLWIRE_API_KEY": key, "TOLLWIRE_HOME": str(tmp_path)}
        async with listener(environ=environ) as it:
            await it.until_listening()
        endpoint = (await rig.call("GET", "/v1/callback", key=key)).body
    assert (endpoint["url"], endpoint["events"]) == (it.url, rest or sorted(DEFAULT_EVENT_TYPES))


async def test_an_endpoint_elsewhere_is_left_alone(database: Database, tmp_path: Path) -> None:
    await prepare(database)
    async with open_api(database, tmp_path) as rig:
        key = await rig.client("demo")
        await rig.call("PUT", "/v1/callback", key=key, body={"url": "https://hooks.example.org/sms"})
        environ = {"TOLLWIRE_API_URL": rig.url, "TOLLWIRE_API_KEY": key, "TOLLWIRE_HOME": str(tmp_path)}
        async with listener(environ=environ) as it:
            assert await it.note() == "The client's callbacks go to https://hooks.example.org/sms.\n"
            assert await it.process.wait() == 1
        assert (await rig.call("GET", "/v1/callback", key=key)).body["url"] == "https://hooks.example.org/sms"
