"""The receipts' door: who proves nothing is told to wait, and nobody else waits for it (RULES 37)."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import dlr.receive as receive_module
import dlr.unproven as unproven_module
from dlr.deliver import Deliver
from dlr.door import open_door
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.receive import BODY_MAX_BYTES, Receive
from dlr.settings import DlrSettings
from dlr.settle import Settle
from dlr.strangers import FAILURES_BURST
from ledger.days import make_days
from shared.domain.receipt_auth import SIGNATURE_HEADER, sign_receipts
from shared.runtime.clock import open_clock
from shared.runtime.http_connections import HEAD_SECONDS
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.server_settings import NatsAccess
from shared.storage.config import carrier_aad, load_carriers
from shared.storage.facts import FactPublisher
from tests.support.api_rig import NO_NATS
from tests.support.flow import Flow, open_flow
from tests.support.locks import held
from tests.support.old_days import drop_days, soon_given_up
from tests.support.servers import Database

KEYRING = Keyring("k1", {"k1": bytes(32)})
SECRET = "the carrier's own"
RECEIPT = b'{"reference": "nothing-like-it", "state": "DELIVRD"}'
STRANGER, OTHER = "192.0.2.66", "198.51.100.1"
HOME = "203.0.113.0/24"
WAIT_SECONDS = 10.0


class Door:
    """Posts to one carrier's door, as if from this address or that."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, now_seconds: int, flow: Flow, receive: Receive
    ) -> None:
        self.flow = flow
        self._receive = receive
        self._session = session
        self._url = url
        self._now_seconds = now_seconds
        self.heard: Any = None

    async def post(
        self,
        address: str,
        secret: str = SECRET,
        body: bytes = RECEIPT,
        carrier: str = "telco",
        content_type: str = "application/json",
    ) -> tuple[int, str | None]:
        """The status and Retry-After."""
        headers = {
            SIGNATURE_HEADER: sign_receipts(secret, body, self._now_seconds),
            "X-Forwarded-For": address,
            "Content-Type": content_type,
        }
        url = self._url.replace("telco", carrier)
        async with self._session.post(url, data=body, headers=headers) as answer:
            self.heard = await answer.json()
            return answer.status, answer.headers.get("Retry-After")

    async def post_compressed(self) -> int:
        """The status of a body that would take our memory before anybody knows whose it is."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        body = gzip.compress(b" " * 10_000_000 + RECEIPT)
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            return answer.status

    async def silence_after(self, said: bytes) -> bytes:
        """What is heard, to the end, by who says this and no more."""
        url = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(said)
        async with asyncio.timeout(WAIT_SECONDS):
            heard = await reader.read()
        writer.close()
        await writer.wait_closed()
        return heard

    async def answered(self, headers: Mapping[str, str], begun: bytes) -> bytes:
        """The status line for a post of whose 60,000 bytes only these come."""
        url = urlsplit(self._url)
        head = {"Host": "door", "Content-Length": "60000", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            writer.write(f"POST {url.path} HTTP/1.1\r\n{lines}\r\n".encode() + begun)
            return await reader.readline()
        finally:
            writer.close()

    async def until_under_way(self, count: int) -> None:
        """Return when so many bytes of strangers have come."""
        while self._receive._unproven._bytes != count:  # noqa: ASYNC110 - a socket gives no event of it
            await asyncio.sleep(0.001)

    def guessed(self, address: str) -> dict[str, str]:
        """The head of a post that may be the carrier's, until its body is known."""
        return {SIGNATURE_HEADER: f"t={self._now_seconds},v1={'0' * 64}", "X-Forwarded-For": address}

    async def kept(self) -> list[tuple[str, Any]]:
        """The reference and date of each receipt that is kept."""
        rows = await self.flow.pool.fetch("select reference, done_at from tollwire.receipts order by id")
        return [tuple(row) for row in rows]

    async def change(self, column: str, value: Any) -> None:
        """Change the carrier's row behind the API, and let the door follow."""
        await self.flow.pool.execute(f"update tollwire.carriers set {column} = $1", value)
        await self.follow()

    async def follow(self) -> None:
        async with self.flow.pool.acquire() as connection:
            self._receive.apply(await load_carriers(connection))


@asynccontextmanager
async def open_carriers_door(
    database: Database, *, head_seconds: float = HEAD_SECONDS, **auth: Any
) -> AsyncIterator[Door]:
    settings = DlrSettings(postgres_dsn=database.dsn("dlr"), keyring_file="", receipts_port=0)
    async with (
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        open_jetstream(NatsAccess(nats_url=NO_NATS)) as jetstream,
        FactPublisher(jetstream) as facts,
        CallbackPoster(CallbackSettings()) as poster,
        HealthNotes(flow.pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(flow.pool, poster, endpoints, clock) as deliver,
        Settle(flow.pool, facts, deliver) as settle,
        Receive(flow.pool, settle, KEYRING, clock, trusted_proxies=["127.0.0.0/8"]) as receive,
        open_door(settings, receive, head_seconds=head_seconds) as port,
        aiohttp.ClientSession() as session,
    ):
        for name in ("telco", "globtel"):
            carrier = await flow.carrier(name=name, settings={"receipts": {"auth": {"kind": "hmac", **auth}}})
            await flow.pool.execute(
                "update tollwire.carriers set secret_sealed = $2 where id = $1",
                carrier,
                KEYRING.seal(SECRET.encode(), carrier_aad(carrier)),
            )
        url = f"http://127.0.0.1:{port}/receipts/telco"
        door = Door(session, url, int(clock.now_ms() / 1000), flow, receive)
        await door.follow()
        yield door


async def test_who_says_nothing_or_half_a_head_is_hung_up(database: Database) -> None:
    async with open_carriers_door(database, head_seconds=1.0) as door:
        for said in (b"", b"POST /receipts/telco HT"):
            assert await door.silence_after(said) == b""
        assert await door.post(OTHER) == (200, None)


async def test_what_waits_of_one_carrier_leaves_places_for_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_module, "QUEUE_MAX", 4)
    async with open_carriers_door(database) as door:

        async def crowd(number: int, carrier: str) -> list[asyncio.Task[tuple[int, str | None]]]:
            """So many posts at once, of which one has been answered."""
            posts = [asyncio.create_task(door.post(OTHER, carrier=carrier)) for _ in range(number)]
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            return posts

        async with held(database, "lock table tollwire.receipts in share mode"):
            many = await crowd(5, "telco")
            few = await crowd(2, "globtel")
        assert sorted(await asyncio.gather(*many)) == [(200, None)] * 2 + [(503, "1")] * 3
        assert sorted(await asyncio.gather(*few)) == [(200, None), (503, "1")]
        assert await door.post(OTHER) == (200, None)


async def test_a_receipt_of_a_day_without_partitions_is_asked_for_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is called malformed never comes again."""
    deadlines = [f"dlr.store.{name}" for name in ("TAKE_DEADLINE_SECONDS", "CALL_DEADLINE_SECONDS")]
    async with open_carriers_door(database) as door:
        await drop_days(door.flow, "tollwire.receipts")
        with monkeypatch.context() as in_a_hurry:
            soon_given_up(in_a_hurry, *deadlines)
            assert await door.post(OTHER) == (503, "1")
        await make_days(door.flow.pool)
        assert await door.post(OTHER) == (200, None)


async def test_a_compressed_body_is_not_unpacked_for_a_stranger(database: Database) -> None:
    async with open_carriers_door(database) as door:
        assert await door.post_compressed() == 415


async def test_no_body_is_waited_for_whose_head_is_not_the_carriers(database: Database) -> None:
    async with open_carriers_door(database) as door, asyncio.timeout(WAIT_SECONDS):
        assert b" 401 " in await door.answered({}, b"")
        await door.change("settings", {"receipts": {"auth": {"kind": "bearer", "networks": [HOME]}}})
        assert b" 401 " in await door.answered({"X-Forwarded-For": "203.0.113.7"}, b"")
        token = {"Authorization": f"Bearer {SECRET}"}
        assert b" 401 " in await door.answered({"X-Forwarded-For": OTHER} | token, b"")


async def test_what_strangers_bring_is_bounded_and_who_began_first_makes_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unproven_module, "UNPROVEN_MAX_BYTES", 3_000)
    begun = b" " * 1_000
    async with open_carriers_door(database) as door, asyncio.timeout(WAIT_SECONDS):
        posts = [asyncio.create_task(door.answered(door.guessed(STRANGER), begun)) for _ in range(3)]
        await door.until_under_way(3_000)
        before = refused("too_many_unproven")
        assert await door.post(OTHER) == (200, None)
        (broken_off,), under_way = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        assert b" 503 " in broken_off.result()
        assert refused("too_many_unproven") == before + 1
        for _ in range(5):  # what is whole counts no more
            assert await door.post(STRANGER, body=b" " * 500 + RECEIPT) == (200, None)
        assert not any(post.done() for post in under_way)
        for post in under_way:
            post.cancel()
        await door.until_under_way(0)


async def test_a_carrier_that_is_proven_by_its_head_is_not_counted_among_strangers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unproven_module, "UNPROVEN_MAX_BYTES", 0)
    async with open_carriers_door(database) as door:
        assert await door.post(OTHER) == (503, "1")
        await door.change("settings", {"receipts": {"auth": {"kind": "address", "networks": [HOME]}}})
        assert await door.post("203.0.113.7") == (200, None)


@pytest.mark.parametrize("address", [STRANGER, OTHER])
async def test_who_proves_nothing_is_told_to_wait_and_the_carrier_is_let_in(
    database: Database, address: str
) -> None:
    """Also from the same address: a proxy's is shared, and the proof is looked at first."""
    async with open_carriers_door(database) as door:
        for _ in range(FAILURES_BURST):
            assert await door.post(STRANGER, "guessed") == (401, None)
        assert await door.post(STRANGER, "guessed") == (429, "1")
        assert (await door.post(OTHER, "guessed"))[0] == 401
        assert (await door.post(address))[0] == 200


async def test_a_list_of_no_receipts_is_received_from_the_carrier_alone(database: Database) -> None:
    async with open_carriers_door(database) as door:
        await door.change("settings", {"receipts": {"auth": {"kind": "hmac"}, "items": "receipts"}})
        nothing = b'{"receipts": []}'
        assert await door.post(OTHER, body=nothing) == (200, None)
        assert await door.post(OTHER, "guessed", body=nothing) == (401, None)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("tollwire_receipts_refused_total", {"reason": reason}) or 0.0


async def test_a_receipt_that_cannot_be_read_costs_only_itself_and_the_others_are_kept_once(
    database: Database,
) -> None:
    """The POST comes again whole; where the settings may be others it is another one."""
    body = (
        b'{"receipts": [{"reference": "a", "state": "DELIVRD"}, {"reference": "b", "state": null},'
        b' {"reference": "c", "state": "EXPIRED", "text": "\xfc"}]}'
    )
    async with open_carriers_door(database) as door:
        await door.change("settings", {"receipts": {"auth": {"kind": "hmac"}, "items": "receipts"}})
        before = refused("malformed")
        for _ in range(2):
            assert await door.post(OTHER, body=body) == (422, None)
            assert await door.kept() == [("a", None), ("c", None)]
        assert door.heard["detail"].startswith("receipt 1: state must be a text")
        assert door.heard["detail"].endswith("(1 of 3 receipts cannot be kept; the others are)")
        assert refused("malformed") == before + 2
        await door.follow()  # another row has changed
        assert await door.post(OTHER, body=body) == (422, None)
        assert await door.kept() == [("a", None), ("c", None)]
        others = {"auth": {"kind": "hmac"}, "items": "receipts", "error_code": "code"}
        await door.change("settings", {"receipts": others})
        assert await door.post(OTHER, body=body) == (422, None)
        assert await door.kept() == [("a", None), ("c", None)] * 2


async def test_a_post_that_says_of_itself_what_it_is_not_is_read_once_it_says_so(database: Database) -> None:
    async with open_carriers_door(database) as door:
        wrong = "application/x-www-form-urlencoded"
        assert await door.post(OTHER, content_type=wrong) == (422, None)
        assert await door.post(OTHER) == (200, None)


async def test_a_date_that_cannot_be_read_costs_no_receipt_and_is_told_once_a_minute(
    database: Database,
) -> None:
    body = b'{"reference": "r", "state": "DELIVRD", "done_at": "0001-01-01T00:00:00Z"}'
    async with open_carriers_door(database) as door:
        with capture_logs() as logs:
            assert [await door.post(OTHER, body=body) for _ in range(2)] == [(200, None)] * 2
        assert await door.kept() == [("r", None)] * 2
        event = "receipts have a date that cannot be read"
        assert [(one["carrier"], one["count"]) for one in logs if one["event"] == event] == [("telco", 1)]


async def test_a_post_that_is_too_large_is_refused_in_words_counted_and_told_with_its_carrier(
    database: Database,
) -> None:
    async with open_carriers_door(database) as door:
        before = refused("too_large")
        with capture_logs() as logs:
            assert await door.post(OTHER, body=b" " * BODY_MAX_BYTES + RECEIPT) == (413, None)
        assert (door.heard["code"], door.heard["status"]) == ("too_large", 413)
        assert refused("too_large") == before + 1
        assert [line["carrier"] for line in logs if "too many bytes" in line["event"]] == ["telco"]
        assert await door.post(OTHER) == (200, None)


async def test_a_carriers_networks_are_looked_for_behind_the_trusted_proxy(database: Database) -> None:
    async with open_carriers_door(database, networks=[HOME]) as door:
        assert (await door.post("203.0.113.7"))[0] == 200
        assert (await door.post(OTHER))[0] == 401


@pytest.mark.parametrize(
    ("column", "value"),
    [("settings", {"receipts": {"auth": {"kind": "hmacc"}}}), ("secret_sealed", b"of no keyring")],
)
async def test_a_row_that_cannot_be_read_leaves_the_carriers_last_good_one(
    database: Database, column: str, value: Any
) -> None:
    async with open_carriers_door(database) as door:
        await door.change(column, value)
        assert (await door.post(OTHER))[0] == 200
