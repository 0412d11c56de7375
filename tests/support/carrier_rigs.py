"""Rigs for the conformance suite: a carrier of ours, and an other end that behaves as a test wants.

A new kind of carrier joins by a line in RIGS: a function that opens it against an other end that shows each
behaviour. What an other end cannot show is left out of the rig's `behaviours`, with the reason there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import partial

import aiohttp
import msgspec

from simulator.outcomes import Outcome
from simulator.rules import BulkFaults, Rule, Rules
from simulator.service import listening
from simulator.settings import Settings
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http, nobody_listens
from tests.support.submissions import REFUSED_MSISDN
from worker.carriers.base import Carrier
from worker.carriers.http_exchange import ANSWER_MAX_BYTES
from worker.carriers.registry import make_carrier
from worker.carriers.simulated import simulator_carrier_settings


class Behaviour(StrEnum):
    """What the company at the other end does with every submit."""

    TAKES = auto()
    REFUSES_SOME = auto()  # those to REFUSED_MSISDN, for good
    REFUSES_FOR_GOOD = auto()
    REFUSES_FOR_NOW = auto()
    THROTTLES = auto()
    NOBODY_LISTENS = auto()
    NEVER_ANSWERS = auto()
    CLOSES_BEFORE_THE_REPLY = auto()
    RESETS = auto()
    CLOSES_MID_REPLY = auto()
    ANSWERS_GARBAGE = auto()
    ANSWERS_TOO_MUCH = auto()
    ANSWERS_WITHOUT_REFERENCE = auto()


@dataclass
class Rig:
    """A carrier, entered, and what its other end saw."""

    carrier: Carrier
    reached: Callable[[], Awaitable[list[tuple[str, str]]]]  # (message id, text) in the order of arrival
    until_one_arrived: Callable[[], Awaitable[None]]
    until_nothing_is_open: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class RigKind:
    """One way to open a rig, and what its other end can show."""

    open: Callable[[Behaviour, Mapping[str, object]], AbstractAsyncContextManager[Rig]]
    behaviours: frozenset[Behaviour]


POLL_SECONDS = 0.005
SECRET = "the carrier's secret"
# No test waits for it; a machine under load does not reach it.
PATIENT = {"total_timeout_seconds": 60.0}
# The connect is within it, which a machine that stood still must not make fail.
IMPATIENT = {"total_timeout_seconds": 2.0}


def _http_settings(
    url: str, *, in_bulk: bool, behaviour: Behaviour, changed: Mapping[str, object]
) -> dict[str, object]:
    settings = simulator_carrier_settings(url)
    if not in_bulk:
        del settings["bulk"]
    settings.update(IMPATIENT if behaviour is Behaviour.NEVER_ANSWERS else PATIENT)
    settings.update(changed)
    # No test waits for a connection: a machine that stood still must not turn an answer that never comes
    # into a message that was never written.
    settings.setdefault("connect_timeout_seconds", settings["total_timeout_seconds"])
    return settings


@asynccontextmanager
async def _http_rig(in_bulk: bool, behaviour: Behaviour, changed: Mapping[str, object]) -> AsyncIterator[Rig]:
    async with faulty_server(partial(_answer, behaviour)) as server:
        with nobody_listens() as nowhere:
            url = nowhere if behaviour is Behaviour.NOBODY_LISTENS else server.url
            settings = _http_settings(url, in_bulk=in_bulk, behaviour=behaviour, changed=changed)
            async with make_carrier("http", "faulty", settings, SECRET.encode()) as carrier:
                yield _rig_of(carrier, server)


def _rig_of(carrier: Carrier, server: FaultyServer) -> Rig:
    async def reached() -> list[tuple[str, str]]:
        return [(item["id"], item["text"]) for request in server.requests for item in _items(request)]

    async def until_one_arrived() -> None:
        await server.arrived.wait()

    return Rig(carrier, reached, until_one_arrived, partial(server.until_connections, 0))


def _items(request: Request) -> list[dict[str, str]]:
    body = msgspec.json.decode(request.body)
    return body if isinstance(body, list) else [body]


_FAULTS: Mapping[Behaviour, Reply] = {
    Behaviour.NEVER_ANSWERS: Reply(b"", "hang"),
    Behaviour.CLOSES_BEFORE_THE_REPLY: Reply(b"", "close"),
    Behaviour.RESETS: Reply(b"", "reset"),
    Behaviour.CLOSES_MID_REPLY: Reply(
        b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"reference": "r', "close"
    ),
    Behaviour.ANSWERS_GARBAGE: http(200, b"<html>It works!</html>"),
    Behaviour.ANSWERS_TOO_MUCH: http(200, b'{"reference":"r","x":"' + b"x" * (2 * ANSWER_MAX_BYTES) + b'"}'),
    Behaviour.ANSWERS_WITHOUT_REFERENCE: http(200, b"{}"),
    Behaviour.THROTTLES: http(429, b'{"error":{"code":"slower"}}', headers={"Retry-After": "7"}),
}


def _answer(behaviour: Behaviour, request: Request) -> Reply:
    if behaviour in _FAULTS:
        return _FAULTS[behaviour]
    answers = [_answer_to(behaviour, item) for item in _items(request)]
    if request.path.endswith("/bulk"):
        return http(200, msgspec.json.encode(answers))
    (answer,) = answers
    return http(int(str(answer["status"])), msgspec.json.encode(answer))


def _answer_to(behaviour: Behaviour, item: Mapping[str, str]) -> dict[str, object]:
    if behaviour is Behaviour.REFUSES_FOR_NOW:
        return {"status": 503, "error": {"code": "try_again"}}
    if behaviour is Behaviour.REFUSES_FOR_GOOD or (
        behaviour is Behaviour.REFUSES_SOME and item["to"] == REFUSED_MSISDN
    ):
        return {"status": 422, "error": {"code": "unknown_number"}}
    return {"status": 200, "reference": f"ref-{item['id']}"}


_SIMULATED: Mapping[Behaviour, Rule] = {
    Behaviour.TAKES: Rule(outcome=Outcome.SILENT),
    Behaviour.REFUSES_SOME: Rule(prefix=REFUSED_MSISDN, outcome=Outcome.REFUSED),
    Behaviour.REFUSES_FOR_GOOD: Rule(outcome=Outcome.REFUSED),
    Behaviour.REFUSES_FOR_NOW: Rule(outcome=Outcome.ALWAYS_TEMPORARY),
    Behaviour.THROTTLES: Rule(outcome=Outcome.ALWAYS_THROTTLED),
    Behaviour.NEVER_ANSWERS: Rule(outcome=Outcome.NO_ANSWER),
    Behaviour.CLOSES_BEFORE_THE_REPLY: Rule(outcome=Outcome.CLOSES),
    Behaviour.CLOSES_MID_REPLY: Rule(outcome=Outcome.CLOSES_MID_REPLY),
    Behaviour.ANSWERS_GARBAGE: Rule(outcome=Outcome.GARBAGE),
}


@asynccontextmanager
async def _simulator_rig(
    in_bulk: bool, behaviour: Behaviour, changed: Mapping[str, object]
) -> AsyncIterator[Rig]:
    rules = Rules(rules=[_SIMULATED[behaviour]], bulk_faults=BulkFaults.WHOLE)
    async with listening(Settings(simulator_port=0, simulator_secret=SECRET), rules) as (url, _):
        settings = _http_settings(url, in_bulk=in_bulk, behaviour=behaviour, changed=changed)
        async with (
            aiohttp.ClientSession(url) as door,
            make_carrier("http", "simulated", settings, SECRET.encode()) as carrier,
        ):
            yield _simulated_rig_of(carrier, door)


def _simulated_rig_of(carrier: Carrier, door: aiohttp.ClientSession) -> Rig:
    async def reached() -> list[tuple[str, str]]:
        async with door.get("/log", params={"limit": "5000"}) as answer:
            return [(line["id"], line["text"]) for line in (await answer.json())["submits"]]

    async def until_one_arrived() -> None:
        while not await reached():  # noqa: ASYNC110 - the event is its
            await asyncio.sleep(POLL_SECONDS)

    async def until_nothing_is_open() -> None:
        hanging = 1
        while hanging:
            async with door.get("/stats") as answer:
                hanging = (await answer.json())["hanging"]
            await asyncio.sleep(POLL_SECONDS)

    return Rig(carrier, reached, until_one_arrived, until_nothing_is_open)


_EVERYTHING = frozenset(Behaviour)
# The simulator is a carrier with faults in its answers, not in its socket: it listens, it closes rather than
# resets, and each of its answers names a reference and is small.
_WHAT_THE_SIMULATOR_SHOWS = frozenset(_SIMULATED)

RIGS: Mapping[str, RigKind] = {
    "http": RigKind(partial(_http_rig, False), _EVERYTHING),
    "http_bulk": RigKind(partial(_http_rig, True), _EVERYTHING),
    "simulator": RigKind(partial(_simulator_rig, False), _WHAT_THE_SIMULATOR_SHOWS),
    "simulator_bulk": RigKind(partial(_simulator_rig, True), _WHAT_THE_SIMULATOR_SHOWS),
}
