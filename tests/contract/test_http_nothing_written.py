"""Where the HTTP carrier draws the line: what failed before a request's first byte has sent nothing."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.support.faulty_http import Reply, Request, faulty_server, http
from tests.support.submissions import submission, submissions
from worker.carriers import http_exchange
from worker.carriers.base import BUSY, TOO_LATE, UNREACHABLE, Handover, Refused, Submitted, Uncertain
from worker.carriers.connections import Connections
from worker.carriers.http import HttpCarrier

BODY = {"to": "$msisdn", "text": "$text", "id": "$message_id"}
TURNS_MAX = 1_000


async def until(is_so: Callable[[], object]) -> None:
    """Give the other tasks turns until it is so."""
    for _ in range(TURNS_MAX):
        if is_so():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came about")


async def test_a_connection_that_came_when_the_carrier_had_closed_carries_nothing():
    """Closed while it connects: there is a connection by then, and nothing is written on it."""
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        carrier = HttpCarrier.from_settings("c", {"url": server.url, "body": BODY}, None)
        async with carrier:
            submitting = asyncio.create_task(carrier.submit_many([submission(1)]))
            await until(lambda: carrier._exchange._connector._acquired)
        (outcome,) = await submitting
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent, server.requests) == (UNREACHABLE, False, [])


async def test_a_name_that_is_being_looked_up_when_the_carrier_closes_is_no_cancellation():
    carrier = HttpCarrier.from_settings("c", {"url": "http://localhost:9/", "body": BODY}, None)
    async with carrier:
        submitting = asyncio.create_task(carrier.submit_many([submission(1)]))
        await until(lambda: carrier._exchange._connector._resolve_host_tasks)
    (outcome,) = await submitting
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent) == (UNREACHABLE, False)


async def test_a_host_that_can_be_no_name_is_unreachable():
    settings = {"url": f"http://{'a' * 64}.example/", "body": BODY}
    async with HttpCarrier.from_settings("c", settings, None) as carrier:
        (outcome,) = await carrier.submit_many([submission(1)])
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent) == (UNREACHABLE, False)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 no TLS here\r\n\r\n"])
async def test_a_handshake_that_fails_has_written_nothing(greeting):
    async def speak_no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    door = await asyncio.start_server(speak_no_tls, "127.0.0.1", 0)
    async with door:
        settings = {"url": f"https://127.0.0.1:{door.sockets[0].getsockname()[1]}/", "body": BODY}
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            (outcome,) = await carrier.submit_many([submission(1)])
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent) == (UNREACHABLE, False)


def connects_late(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a connection take so long to come."""
    note_written = http_exchange._note_written

    async def note_late(*about: Any) -> None:
        await asyncio.sleep(seconds)
        await note_written(*about)

    monkeypatch.setattr(http_exchange, "_note_written", note_late)


async def test_a_connection_that_comes_when_the_validity_is_over_carries_nothing(monkeypatch):
    """That is nobody's fault: neither the carrier's, which was reached, nor the message's try."""
    valid_for_seconds = 0.2

    connects_late(monkeypatch, valid_for_seconds)
    async with (
        faulty_server(lambda _: http(200, b"{}")) as server,
        HttpCarrier.from_settings("c", {"url": server.url, "body": BODY}, None) as carrier,
    ):
        (outcome,) = await carrier.submit_many([submission(1, valid_for_seconds=valid_for_seconds)])
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent, server.requests) == (BUSY, False, [])


class Sleepy(Handover):
    """The machine is suspended while this is asked for the given time."""

    def __init__(self, sleeps_at: int, sleep: Callable[[], None]) -> None:
        self._left = sleeps_at
        self._sleep = sleep

    def refusal(self) -> Refused | None:
        self._left -= 1
        if self._left == 0:
            self._sleep()
        return None


SLEEPS_AT = {"handed over": 0, "connection free": 1, "its turn": 2, "connected": 3}


@pytest.mark.parametrize("sleeps_at", SLEEPS_AT.values(), ids=SLEEPS_AT)
@pytest.mark.parametrize("bulk", [None, {"url": "", "batch_max": 10}], ids=["single", "bulk"])
@pytest.mark.parametrize(("slept_seconds", "is_over"), [(31.0, False), (601.0, True)])
async def test_after_a_suspend_nothing_is_written_whose_time_is_over(
    monkeypatch, sleeps_at, bulk, slept_seconds, is_over
):
    """The loop's clock stands still meanwhile, and so do its timers."""
    slept, read = {time.CLOCK_BOOTTIME: 0.0}, time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: read(which) + slept.get(which, 0.0))
    handover = Sleepy(sleeps_at, lambda: slept.update({time.CLOCK_BOOTTIME: slept_seconds}))
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        settings = {"url": server.url, "body": BODY} | ({"bulk": bulk | {"url": server.url}} if bulk else {})
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            wanted = submissions(2 if bulk else 1)
            if not sleeps_at:  # between the claim and the carrier
                slept[time.CLOCK_BOOTTIME] = slept_seconds
            outcomes = await carrier.submit_many(wanted, handover)
    assert [outcome for outcome in outcomes if isinstance(outcome, Refused) and outcome.is_busy] == outcomes
    assert server.requests == []
    assert (TOO_LATE in outcomes) == is_over


async def test_a_connection_that_comes_after_half_of_the_deadline_carries_nothing(monkeypatch):
    """It had its place before: what was left then has no first half of its own."""
    deadline_seconds = 1.0

    connects_late(monkeypatch, 0.3 * deadline_seconds)
    async with (
        faulty_server(lambda _: http(200, b"{}")) as server,
        HttpCarrier.from_settings("c", {"url": server.url, "body": BODY}, None) as carrier,
    ):
        connections = carrier._exchange._connections = Connections(0)
        submitting = asyncio.create_task(
            carrier.submit_many([submission(1, deadline_seconds=deadline_seconds)])
        )
        await asyncio.sleep(0.3 * deadline_seconds)
        connections.give()
        (outcome,) = await submitting
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.permanent, server.requests) == (BUSY, False, [])


async def test_a_bulk_that_is_refused_as_a_whole_after_half_of_the_deadline_is_not_asked_for_one_by_one():
    """Each was a try that the carrier answered, though it does not say which of them is at fault."""
    deadline_seconds = 5.0

    async def refuse_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.6 * deadline_seconds)
        writer.write(b"HTTP/1.1 422 no\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    asked: list[bytes] = []
    door = await asyncio.start_server(refuse_late, "127.0.0.1", 0)
    async with door:
        url = f"http://127.0.0.1:{door.sockets[0].getsockname()[1]}/"
        settings = {"url": url, "body": BODY, "bulk": {"url": url}}
        wanted = [
            submission(number, deadline_seconds=deadline_seconds, valid_for_seconds=valid_for_seconds)
            for number, valid_for_seconds in ((1, None), (2, 0.5 * deadline_seconds))
        ]
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            outcomes = await carrier.submit_many(wanted)
    assert len(asked) == 1
    assert outcomes == [Refused("http_422", "status 422", permanent=False)] * 2


async def test_a_bulk_whose_connection_comes_when_one_validity_is_over_carries_the_others(monkeypatch):
    valid_for_seconds = 0.2

    async def note_late(*about: Any) -> None:
        monkeypatch.setattr(http_exchange, "_note_written", note_written)
        await asyncio.sleep(valid_for_seconds)  # as long as the connection took to come
        await note_written(*about)

    def answer(request: Request) -> Reply:
        return http(200, msgspec.json.encode([{"reference": one["id"]} for one in items(request)]))

    def items(request: Request) -> list[dict[str, str]]:
        return msgspec.json.decode(request.body, type=list[dict[str, str]])

    note_written = http_exchange._note_written
    monkeypatch.setattr(http_exchange, "_note_written", note_late)
    wanted = [submission(1), submission(2, valid_for_seconds=valid_for_seconds), submission(3)]
    async with faulty_server(answer) as server:
        settings = {"url": server.url, "body": BODY, "bulk": {"url": server.url}}
        async with HttpCarrier.from_settings("c", settings, None) as carrier:
            outcomes = await carrier.submit_many(wanted)
    first, third = str(wanted[0].message_id), str(wanted[2].message_id)
    assert outcomes == [Submitted(first), TOO_LATE, Submitted(third)]
    assert [[one["id"] for one in items(request)] for request in server.requests] == [[first, third]]


async def test_the_line_is_drawn_before_the_first_byte(monkeypatch):
    """What is noted as written was not written yet: who fails there leaves the server with nothing."""
    arrived = asyncio.get_running_loop().create_future()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.read())
        writer.close()

    async def note_and_fail(*about: Any) -> None:
        await note_written(*about)
        raise RuntimeError("here")

    note_written = http_exchange._note_written
    monkeypatch.setattr(http_exchange, "_note_written", note_and_fail)
    door = await asyncio.start_server(note, "127.0.0.1", 0)
    async with door:
        url = f"http://127.0.0.1:{door.sockets[0].getsockname()[1]}/"
        async with HttpCarrier.from_settings("c", {"url": url, "body": BODY}, None) as carrier:
            (outcome,) = await carrier.submit_many([submission(1)])
        async with asyncio.timeout(10):
            assert await arrived == b""
    assert isinstance(outcome, Uncertain)
