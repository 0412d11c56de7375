"""JetStream on a real server: what is published arrives, whatever is wiped or killed in between."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.msg import Msg as NatsMsg
from nats.js.api import AckPolicy, ConsumerConfig

from embedded.nats import NatsServer
from shared.runtime import jetstream as runtime
from shared.runtime.consumers import ACK_PENDING_MAX, ACK_WAIT_SECONDS
from shared.runtime.jetstream import JetStream, JetStreamDown, PublishFailed, open_jetstream
from shared.runtime.loops import Stop, cancel_all
from shared.runtime.nats_connection import NatsConnection
from shared.runtime.server_settings import NatsAccess
from shared.runtime.streams import STREAMS

WAIT_SECONDS = 20.0
PULLS = "$JS.API.CONSUMER.MSG.NEXT.SMS_SEND.express"
EXPRESS = "sms.send.express"
STORE_BYTES = 256 * 2**20


def access(server: NatsServer, **told: Any) -> NatsAccess:
    return NatsAccess(
        nats_url=server.url, nats_token=server.token, **{"nats_store_bytes": STORE_BYTES} | told
    )


@asynccontextmanager
async def connected(settings: NatsAccess) -> AsyncIterator[JetStream]:
    async with asyncio.timeout(60), open_jetstream(settings) as jetstream:
        assert await jetstream.wait_connected(WAIT_SECONDS)
        await jetstream.ensure_streams()
        yield jetstream


@asynccontextmanager
async def bare_client(settings: NatsAccess) -> AsyncIterator[Any]:
    client = await nats.connect(settings.nats_url, token=settings.nats_token or None)
    try:
        yield client
    finally:
        await client.close()


async def next_list(lists: AsyncIterator[list[Any]]) -> list[Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        return await anext(lists)


@pytest.fixture
def settings(nats_server: NatsServer) -> NatsAccess:
    return access(nats_server)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that the test may kill; not started yet."""
    server = NatsServer(tmp_path / "nats")
    yield server
    server.stop()


async def test_the_streams_are_as_the_design_names_them(settings: NatsAccess) -> None:
    async with connected(settings), bare_client(settings) as client:
        found = {info.config.name: info.config for info in await client.jetstream().streams_info()}
    assert set(found) == {"SMS_SEND", "SMS_DLQ", "SMS_RECEIPT", "SMS_EVENT"}
    assert found["SMS_SEND"].subjects == ["sms.send.express", "sms.send.normal", "sms.send.bulk"]
    assert found["SMS_SEND"].retention == found["SMS_RECEIPT"].retention == "workqueue"
    assert found["SMS_DLQ"].max_age == 30 * 86400
    assert found["SMS_EVENT"].max_age == 7 * 86400
    assert {config.storage for config in found.values()} == {"file"}
    assert all(config.duplicate_window >= 120 for config in found.values())


async def test_all_streams_together_fit_the_disk_they_are_given() -> None:
    assert sum(stream.store_percent for stream in STREAMS) == 100


async def test_a_stream_that_differs_is_changed_and_keeps_its_messages(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"kept", message_id="1")
        made_at = jetstream.stream_incarnation("SMS_SEND")
    larger = msgspec.structs.replace(settings, nats_store_bytes=512 * 2**20)
    async with connected(larger) as jetstream, bare_client(settings) as client:
        info = await client.jetstream().stream_info("SMS_SEND")
        assert info.config.max_bytes == 512 * 2**20 * 40 // 100
        assert info.state.messages == 1
        assert jetstream.stream_incarnation("SMS_SEND") == made_at


async def test_a_published_message_arrives_with_its_headers_and_is_gone_when_acked(
    settings: NatsAccess,
) -> None:
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"bundle", message_id="m1", headers={"traceparent": "00-ab"})
        lists = jetstream.consume("SMS_SEND", "express", EXPRESS, 10)
        (message,) = await next_list(lists)
        assert (message.data, message.subject, message.deliveries) == (b"bundle", EXPRESS, 1)
        assert message.headers["traceparent"] == "00-ab"
        await message.in_progress()
        assert await jetstream.oldest_ms(EXPRESS) is not None
        await message.ack()
        await jetstream.publish("sms.send.bulk", b"flushes the ack", message_id="m2")
        assert await jetstream.oldest_ms(EXPRESS) is None


async def test_the_same_message_id_is_stored_once(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        for _ in range(3):
            await jetstream.publish(EXPRESS, b"once", message_id="same")
        messages = await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(10, 1.0)
        assert [message.data for message in messages] == [b"once"]


async def test_what_is_there_comes_in_one_list_in_order(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        await asyncio.gather(*(jetstream.publish(EXPRESS, b"%d" % n, message_id=f"m{n}") for n in range(250)))
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        first, second = await consumer.fetch(200, 1.0), await consumer.fetch(200, 1.0)
        assert (len(first), len(second)) == (200, 50)
        assert sorted(int(message.data) for message in first + second) == list(range(250))


async def test_a_consumer_that_an_older_release_made_hands_out_what_this_one_may(
    settings: NatsAccess,
) -> None:
    async with connected(settings) as jetstream, bare_client(settings) as client:
        older = ConsumerConfig(
            durable_name="express",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=1_000,
            filter_subject=EXPRESS,
        )
        await client.jetstream().add_consumer("SMS_SEND", older)
        await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(1, 0.01)
        (backlog,) = await jetstream.backlogs("SMS_SEND")
        assert backlog.ack_pending_max == ACK_PENDING_MAX


async def test_an_idle_consumer_gets_a_message_as_soon_as_it_is_published(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        waiting = asyncio.create_task(consumer.fetch(10, WAIT_SECONDS))
        async with bare_client(settings) as client:
            await waits_at_the_server(client, "express")
        await jetstream.publish(EXPRESS, b"now", message_id="now")
        (message,) = await waiting
        assert message.data == b"now"


async def waits_at_the_server(client: Any, durable: str) -> None:
    """Return when the durable consumer has a pull waiting (asked of the server again and again)."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                info = await client.jetstream().consumer_info("SMS_SEND", durable)
            except nats.js.errors.NotFoundError:
                continue
            if info.num_waiting:
                return


async def test_a_message_given_back_comes_again_and_a_malformed_one_never(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"later", message_id="1")
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        (message,) = await consumer.fetch(1, WAIT_SECONDS)
        await message.nak()
        (message,) = await consumer.fetch(1, WAIT_SECONDS)
        assert message.deliveries == 2
        await message.term()
        await jetstream.publish(EXPRESS, b"next", message_id="2")
        (message,) = await consumer.fetch(10, WAIT_SECONDS)
        assert message.data == b"next"


async def test_the_stop_ends_a_consumer(settings: NatsAccess) -> None:
    stop = Stop()
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"1", message_id="1")
        seen = []
        async for messages in jetstream.consume("SMS_SEND", "express", EXPRESS, 10, stop=stop):
            seen += messages
            stop.request("test")
        assert len(seen) == 1


async def test_an_idle_consumer_asks_the_server_seldom(settings: NatsAccess) -> None:
    """Each question keeps the server awake: one for what is there, one that waits, none in between."""
    async with connected(settings) as jetstream, bare_client(settings) as client:
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        asked: list[bytes] = []

        async def note(message: Any) -> None:
            asked.append(message.data)

        await client.subscribe(PULLS, cb=note)
        for _ in range(3):
            assert await consumer.fetch(10, 0.3) == []
        await client.flush()
        assert [b"no_wait" in order for order in asked] == [True, False, False, False]


async def test_a_stop_takes_back_what_was_asked_for(settings: NatsAccess) -> None:
    """Else the next message would be handed to who has gone, and lie there until its answer is overdue."""
    stop = Stop()
    async with connected(settings) as jetstream, bare_client(settings) as client:
        waiting = asyncio.create_task(
            jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(10, WAIT_SECONDS, stop=stop)
        )
        await waits_at_the_server(client, "express")
        stop.request("test")
        async with asyncio.timeout(WAIT_SECONDS / 2):
            assert await waiting == []
        await jetstream.publish(EXPRESS, b"for another", message_id="1")
        (message,) = await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(10, WAIT_SECONDS)
        assert (message.data, message.deliveries) == (b"for another", 1)


async def test_what_comes_while_a_consumer_stops_goes_to_another_at_once(settings: NatsAccess) -> None:
    """Not when its answer is overdue, half a minute later."""
    async with connected(settings) as jetstream, bare_client(settings) as client:
        for turn in range(12):
            stop = Stop()
            stopping = jetstream.consumer("SMS_SEND", "express", EXPRESS)
            waiting = asyncio.create_task(stopping.fetch(1, WAIT_SECONDS, stop=stop))
            await waits_at_the_server(client, "express")
            leave = stopping._leave

            async def leave_in_a_crowd(turn: int = turn, leave: Any = leave) -> None:
                publishing = asyncio.create_task(
                    jetstream.publish(EXPRESS, b"%d" % turn, message_id=f"in a crowd {turn}")
                )
                for _ in range(turn):
                    await asyncio.sleep(0)
                await leave()
                await publishing

            stopping._leave = leave_in_a_crowd  # type: ignore[method-assign]
            stop.request("test")
            assert await waiting == []
            another = jetstream.consumer("SMS_SEND", "express", EXPRESS)
            (message,) = await another.fetch(10, WAIT_SECONDS)
            assert message.data == b"%d" % turn
            await message.ack()


@pytest.mark.parametrize("status", ["409", "503"])
async def test_what_has_come_when_its_pull_ends_badly_is_worked_off(
    settings: NatsAccess, status: str
) -> None:
    """Not by another worker when its answer is overdue, which is the life of a one-time password."""
    async with connected(settings) as jetstream:
        for number in range(3):
            await jetstream.publish(EXPRESS, b"%d" % number, message_id=str(number))
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        arrive = consumer._on_message

        async def end_after_two(message: NatsMsg) -> None:
            await arrive(message)
            if message.data == b"1":
                await arrive(NatsMsg(message._client, headers={"Status": status}))

        consumer._on_message = end_after_two  # type: ignore[method-assign]
        assert [message.data for message in await consumer.fetch(10, 1.0)] == [b"0", b"1"]
        (message,) = await consumer.fetch(10, WAIT_SECONDS)
        assert (message.data, message.deliveries) == (b"2", 1)


async def test_what_has_come_when_its_neighbours_cannot_be_asked_for_is_worked_off(
    settings: NatsAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(settings) as jetstream:
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        assert await consumer.fetch(10, 0.1) == []  # so that the next one waits, and asks again then
        await jetstream.publish(EXPRESS, b"alone", message_id="1")
        client = jetstream._connection.client
        publish = client.publish

        async def break_off(subject: str, payload: bytes = b"", *rest: Any, **options: Any) -> None:
            if b"no_wait" in payload:
                raise nats.errors.ConnectionClosedError
            await publish(subject, payload, *rest, **options)

        monkeypatch.setattr(client, "publish", break_off)
        (message,) = await consumer.fetch(10, WAIT_SECONDS)
        assert (message.data, message.deliveries) == (b"alone", 1)


async def test_streams_are_looked_after_while_a_foreign_one_holds_up_their_list(
    settings: NatsAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster the list waits for streams without a leader longer than we do."""

    async def silent(*_: object, **_options: object) -> list[Any]:
        raise nats.errors.TimeoutError

    async with connected(settings) as jetstream, bare_client(settings) as client:
        before = jetstream.stream_incarnation("SMS_SEND")
        await delete_wholly(client, "SMS_SEND")
        monkeypatch.setattr(nats.js.JetStreamContext, "streams_info", silent)
        await jetstream.ensure_streams()
        assert jetstream.stream_incarnation("SMS_SEND") > before > 0


async def test_who_waits_asks_again_when_the_server_has_come_back(own_server: NatsServer) -> None:
    """The pull of before is forgotten with the server that had it: nobody waits for its end."""
    await own_server.start_async()
    async with connected(access(own_server)) as jetstream:
        consumer = jetstream.consumer("SMS_SEND", "express", EXPRESS)
        waiting = asyncio.create_task(consumer.fetch(10, 3_600.0))
        async with bare_client(access(own_server)) as client:
            await waits_at_the_server(client, "express")
        own_server.child.send(signal.SIGKILL)
        await own_server.stop_async()
        await own_server.start_async()
        async with asyncio.timeout(WAIT_SECONDS):
            assert await waiting == []


async def test_a_deleted_consumer_is_made_again_and_starts_at_the_oldest_message(
    settings: NatsAccess,
) -> None:
    async with connected(settings) as jetstream, bare_client(settings) as client:
        lists = jetstream.consume("SMS_SEND", "express", EXPRESS, 1)
        await jetstream.publish(EXPRESS, b"1", message_id="1")
        assert [m.data for m in await next_list(lists)] == [b"1"]
        await client.jetstream().delete_consumer("SMS_SEND", "express")
        assert [m.data for m in await next_list(lists)] == [b"1"]


async def delete_wholly(client: Any, stream: str) -> None:
    """Delete a stream; return when it is gone, which may be a moment after the server's answer."""
    made_at = (await client.jetstream().stream_info(stream)).created
    await client.jetstream().delete_stream(stream)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                info = await client.jetstream().stream_info(stream)
            except nats.js.errors.NotFoundError:
                return
            if info.created != made_at:
                return


async def test_a_wiped_stream_is_made_again_as_another_incarnation(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream, bare_client(settings) as client:
        lists = jetstream.consume("SMS_SEND", "express", EXPRESS, 1)
        await jetstream.publish(EXPRESS, b"lost", message_id="1")
        before = jetstream.stream_incarnation("SMS_SEND")
        await delete_wholly(client, "SMS_SEND")
        await jetstream.publish(EXPRESS, b"after", message_id="1")
        assert jetstream.stream_incarnation("SMS_SEND") > before > 0
        assert [m.data for m in await next_list(lists)] == [b"after"]


async def test_a_full_work_queue_refuses_the_new_message_at_once(settings: NatsAccess) -> None:
    settings = msgspec.structs.replace(settings, nats_store_bytes=5000)
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"x" * 1000, message_id="1")
        with pytest.raises(PublishFailed, match="maximum bytes"):
            await jetstream.publish(EXPRESS, b"x" * 1000, message_id="2")


async def test_without_a_server_everything_answers_and_later_it_works(own_server: NatsServer) -> None:
    own_server.folder.mkdir(mode=0o700)
    settings = access(own_server)
    async with asyncio.timeout(60), open_jetstream(settings) as jetstream:
        assert not jetstream.connected
        assert jetstream.stream_incarnation("SMS_SEND") == 0
        assert await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(1, 0.01) == []
        with pytest.raises(JetStreamDown):
            await jetstream.oldest_ms(EXPRESS)
        with pytest.raises(PublishFailed, match="not connected"):
            await jetstream.publish(EXPRESS, b"", message_id="1")
        await own_server.start_async()
        assert await jetstream.wait_connected(WAIT_SECONDS)
        await jetstream.publish(EXPRESS, b"", message_id="1")
        assert jetstream.stream_incarnation("SMS_SEND") > 0


async def test_a_killed_server_comes_back_with_what_was_published(own_server: NatsServer) -> None:
    await own_server.start_async()
    settings = access(own_server)
    async with connected(settings) as jetstream:
        await jetstream.publish(EXPRESS, b"before", message_id="1")
        own_server.child.send(signal.SIGKILL)
        await own_server.stop_async()
        publishing = asyncio.create_task(jetstream.publish(EXPRESS, b"during", message_id="2"))
        await own_server.start_async()
        await publishing
        lists = jetstream.consume("SMS_SEND", "express", EXPRESS, 1)
        assert [m.data for m in await next_list(lists)] == [b"before"]
        assert [m.data for m in await next_list(lists)] == [b"during"]


async def test_a_client_that_closed_itself_is_replaced_and_consumers_go_on(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        lists = jetstream.consume("SMS_SEND", "express", EXPRESS, 1)
        await jetstream.publish(EXPRESS, b"before", message_id="1")
        assert [m.data for m in await next_list(lists)] == [b"before"]
        await jetstream._connection.client.close()
        await jetstream.publish(EXPRESS, b"after", message_id="2")
        assert [m.data for m in await next_list(lists)] == [b"after"]


async def test_a_wrong_token_is_no_reason_to_end(settings: NatsAccess) -> None:
    settings = msgspec.structs.replace(settings, nats_token="wrong")
    async with asyncio.timeout(10), open_jetstream(settings) as jetstream:
        assert not await jetstream.wait_connected(0.5)


async def test_too_many_publishes_in_flight_are_refused(
    settings: NatsAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "PUBLISHES_MAX", 2)
    async with connected(settings) as jetstream:
        results = await asyncio.gather(
            *(jetstream.publish(EXPRESS, b"", message_id=str(n)) for n in range(5)), return_exceptions=True
        )
        assert sum(isinstance(result, PublishFailed) for result in results) == 3
        await jetstream.publish(EXPRESS, b"", message_id="later")


@pytest.mark.parametrize("answer", [b"what?", b"[]", b"{}", b"\xff"])
async def test_a_stranger_that_answers_a_publish_is_no_success(
    settings: NatsAccess, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(runtime, "PUBLISH_SECONDS", 0.4)

    async def answers(message: Any) -> None:
        await message.respond(answer)

    connection = NatsConnection(settings, name="test")  # nobody makes the streams: the stranger alone answers
    task = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(WAIT_SECONDS), bare_client(settings) as stranger:
            await stranger.subscribe(EXPRESS, cb=answers)
            # Not flush(): nats-py's PING overtakes the SUB.
            await stranger.request(EXPRESS, b"", timeout=WAIT_SECONDS)
            with pytest.raises(PublishFailed):
                await JetStream(settings, connection).publish(EXPRESS, b"x", message_id="1")
    finally:
        connection.is_closing = True
        await cancel_all([task])
        await connection.close()


async def test_the_age_of_a_subject_is_that_of_its_own_oldest_message(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream, bare_client(settings) as client:
        await jetstream.publish("sms.send.bulk", b"older, other lane", message_id="1")
        await jetstream.publish(EXPRESS, b"first", message_id="2")
        await jetstream.publish(EXPRESS, b"second", message_id="3")
        request = json.dumps({"seq": 2}).encode()
        answer = await client.request("$JS.API.STREAM.MSG.GET.SMS_SEND", request)
        stored_at = json.loads(answer.data)["message"]["time"]
        oldest = await jetstream.oldest_ms(EXPRESS)
        assert oldest is not None
        assert stored_at.startswith(_second(oldest))


def _second(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def test_the_time_of_the_server_is_told(settings: NatsAccess) -> None:
    async with connected(settings) as jetstream:
        before = time.time_ns() // 1_000_000
        assert before <= await jetstream.now_ms("SMS_SEND") <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("answer", [b"what?", b"[]", b"{}", b'{"ts": "yesterday"}', b"\xff"])
async def test_a_stranger_that_answers_what_time_it_is_is_not_believed(
    settings: NatsAccess, answer: bytes
) -> None:
    async def answers(message: Any) -> None:
        await message.respond(answer)

    subject = "$JS.API.STREAM.INFO.OTHER"
    async with connected(settings) as jetstream, bare_client(settings) as stranger:
        await stranger.subscribe(subject, cb=answers)
        await stranger.request(subject, b"", timeout=WAIT_SECONDS)
        with pytest.raises(JetStreamDown):
            await jetstream.now_ms("OTHER")
