"""A NATS that says nothing any more, or nonsense: it is left, and nobody waits for it without an end."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from embedded.files import write_private
from embedded.nats import NatsServer
from embedded.unit import running
from shared.events.facts import Fact
from shared.runtime import jetstream as runtime
from shared.runtime import nats_connection
from shared.runtime.jetstream import JetStream, PublishFailed, open_jetstream
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.certificates import Authority
from tests.support.nats_access import GuardedNats
from tests.support.nats_door import NatsDoor

EXPRESS = "sms.send.express"
EVENT = "sms.event.sent"
# More than the sockets between us and the door hold: the rest waits in our own buffers.
PAYLOAD = b"x" * 15_000
PUBLISHES = 1_200
# Beside a limit, for a machine that does much else.
SLACK_SECONDS = 10.0
LIMIT_SECONDS = 90.0


class TokenNats(GuardedNats):
    """A NATS with its token, and more lines."""

    def __init__(self, folder: Path, *more: str) -> None:
        super().__init__(folder, *more)

    def prepare(self) -> None:
        """Write its configuration."""
        self._lines = (*self._lines, f'authorization {{ token: "{self.token}" }}')
        super().prepare()


class NoJetStream(GuardedNats):
    """A NATS in which somebody else answers for JetStream."""

    def prepare(self) -> None:
        """Write its configuration."""
        super().prepare()
        file = self.folder / "nats.conf"
        lines = [line for line in file.read_text().splitlines() if not line.startswith("jetstream")]
        write_private(file, "\n".join(lines))


def access(server: NatsServer, *doors: NatsDoor, **told: Any) -> NatsAccess:
    return NatsAccess(
        **{
            "nats_url": ",".join(door.url for door in doors),
            "nats_token": server.token,
            "nats_store_bytes": 256 * 2**20,
            **told,
        }
    )


@asynccontextmanager
async def entered(settings: NatsAccess) -> AsyncIterator[JetStream]:
    async with asyncio.timeout(LIMIT_SECONDS), open_jetstream(settings) as jetstream:
        assert await jetstream.wait_connected(LIMIT_SECONDS)
        await jetstream.ensure_streams()
        yield jetstream


@asynccontextmanager
async def doors_to(server: NatsServer, number: int) -> AsyncIterator[list[NatsDoor]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(NatsDoor(server.port).opened()) for _ in range(number)]


def publish_much(jetstream: JetStream) -> list[asyncio.Task[None]]:
    return [
        asyncio.create_task(jetstream.publish(EVENT, PAYLOAD, message_id=str(n))) for n in range(PUBLISHES)
    ]


def fact() -> Fact:
    return Fact(
        message_id=uuid.uuid4().hex,
        client_id=1,
        status="SENT",
        at=datetime.now(UTC),
        region="DE",
        lane="express",
        segments=1,
        amount_micros=1,
        currency="EUR",
        carrier_id=1,
        attempt_no=1,
        error=None,
    )


async def ended(publishing: list[asyncio.Task[None]]) -> set[str]:
    """How the publishes ended, by name."""
    results = await asyncio.gather(*publishing, return_exceptions=True)
    return {type(result).__name__ for result in results}


@pytest.fixture
def pings_each_second(monkeypatch: pytest.MonkeyPatch) -> float:
    """A silent server is found within what this gives."""
    monkeypatch.setattr(nats_connection, "PING_SECONDS", 1)
    return 1.0 * (nats_connection.UNANSWERED_PINGS_MAX + 1)


@pytest.fixture
def no_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_connection, "PING_SECONDS", 600)


@pytest.fixture(params=["plain", "tls"])
def lines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """What a server is told beside its token, and what we are told of it."""
    if request.param == "plain":
        yield [], {}
        return
    folder = tmp_path / "authority"
    folder.mkdir()
    authority = Authority(folder)
    cert, key = authority.issue("127.0.0.1")
    yield [f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'], {"nats_ca_file": str(authority.ca_file)}


async def test_a_silent_server_with_bytes_waiting_is_left_for_the_second(
    tmp_path: Path, lines: tuple[list[str], dict[str, Any]], pings_each_second: float
) -> None:
    more, told = lines
    async with (
        running(TokenNats(tmp_path / "nats", *more)) as server,
        doors_to(server, 2) as doors,
        entered(access(server, *doors, **told)) as jetstream,
    ):
        other, used = sorted(doors, key=lambda door: door.clients)
        assert (other.clients, used.clients) == (0, 1)
        used.fall_silent()
        publishing = publish_much(jetstream)
        async with asyncio.timeout(pings_each_second + SLACK_SECONDS):
            await other.wait_clients(1)
        assert await ended(publishing) <= {"NoneType", "PublishFailed"}
        assert await jetstream.wait_connected(SLACK_SECONDS)
        await jetstream.publish(EXPRESS, b"after", message_id="after")


async def test_without_an_answer_we_are_not_connected_until_somebody_speaks(
    nats_server: NatsServer, pings_each_second: float
) -> None:
    async with doors_to(nats_server, 1) as (door,), entered(access(nats_server, door)) as jetstream:
        door.fall_silent()
        publishing = publish_much(jetstream)
        async with asyncio.timeout(pings_each_second + SLACK_SECONDS):
            while jetstream.connected:  # noqa: ASYNC110 - nobody waits for this in the product
                await asyncio.sleep(0.01)
        assert "NoneType" not in await ended(publishing)
        with pytest.raises(PublishFailed, match="not connected"):
            await jetstream.publish(EXPRESS, b"", message_id="during")
        door.speak()
        assert await jetstream.wait_connected(LIMIT_SECONDS)
        await jetstream.publish(EXPRESS, b"", message_id="after")


@pytest.mark.usefixtures("no_pings")
async def test_everything_ends_before_the_silence_is_found(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "PUBLISH_SECONDS", 2.0)
    async with doors_to(nats_server, 1) as (door,), AsyncExitStack() as stack:
        jetstream = await stack.enter_async_context(entered(access(nats_server, door)))
        await jetstream.publish(EXPRESS, b"to be acked", message_id="1")
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        (message,) = await consumer.fetch(1, SLACK_SECONDS)
        facts = await stack.enter_async_context(FactPublisher(jetstream))
        facts.add(fact())
        door.fall_silent()
        publishing = publish_much(jetstream)
        await asyncio.sleep(0)
        async with asyncio.timeout(SLACK_SECONDS):
            await message.ack()
            assert await consumer.fetch(10, 0.1) == []
        async with asyncio.timeout(2.0 + SLACK_SECONDS):
            assert await ended(publishing) == {"PublishFailed"}
        client = jetstream._connection.client
        assert client.pending_data_size < 2 * runtime.UNSENT_BYTES_MAX, "repeats fill our memory"
        async with asyncio.timeout(2.0 + SLACK_SECONDS):
            await stack.aclose()  # a process that stops: the fact is tried, the connection closed


async def test_no_line_of_the_log_has_the_password(tmp_path: Path) -> None:
    line = 'authorization { user: "tw", password: "S3CRETpw" }'
    async with running(GuardedNats(tmp_path / "nats", line)) as server:
        url = server.url.replace("//", "//tw:S3CRETpw@")
        with capture_logs() as logs:
            async with entered(NatsAccess(nats_url=url, nats_store_bytes=256 * 2**20)):
                pass
    assert any(log.get("server") == f"127.0.0.1:{server.port}" for log in logs)
    assert "S3CRET" not in str(logs)


@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_a_server_that_greets_strangely_is_asked_again(nats_server: NatsServer, when: str) -> None:
    async with asyncio.timeout(LIMIT_SECONDS), doors_to(nats_server, 1) as (door,):
        door.greeting = b"INFO []\r\n" if when == "at the start" else None
        async with open_jetstream(access(nats_server, door)) as jetstream:
            await door.wait_clients(1)
            if when == "later":
                assert await jetstream.wait_connected(LIMIT_SECONDS)
                door.greeting = b"INFO []\r\n"
                await door.drop()
                await door.wait_clients(1)
            door.greeting = None
            await door.drop()
            assert await jetstream.wait_connected(LIMIT_SECONDS)
            await jetstream.publish(EXPRESS, b"", message_id="after")


async def test_who_hears_an_answer_that_makes_no_sense_asks_again(tmp_path: Path) -> None:
    questions: asyncio.Queue[str] = asyncio.Queue()

    async def answer(question: Msg) -> None:
        await question.respond(b"no JSON")
        questions.put_nowait(question.subject)

    async with asyncio.timeout(LIMIT_SECONDS), running(NoJetStream(tmp_path / "nats")) as server:
        other = await nats.connect(server.url)
        await other.subscribe("$JS.API.>", cb=answer)
        settings = NatsAccess(nats_url=server.url, nats_store_bytes=256 * 2**20)
        async with open_jetstream(settings) as jetstream:
            for _ in range(3):
                assert "$JS.API.STREAM." in await questions.get()
            assert await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(1, SLACK_SECONDS) == []
        await other.close()
