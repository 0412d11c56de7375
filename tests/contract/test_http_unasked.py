"""The HTTP carrier takes no answer for its own that it has not asked for."""

import msgspec
import pytest
from prometheus_client import REGISTRY

from tests.support.faulty_http import Reply, Request, faulty_server, http
from tests.support.submissions import submission
from worker.carriers.base import Outcome, Submitted, Uncertain
from worker.carriers.http import HttpCarrier
from worker.carriers.http_answers import INFORMATIONAL_MAX

BODY = {"id": "$message_id"}
OK = b'{"reference":"r-1"}'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def carrier_at(url: str, name: str = "c") -> HttpCarrier:
    return HttpCarrier.from_settings(name, {"url": url, "body": BODY}, None)


def by_its_id(request: Request) -> Reply:
    """Answer with a reference that says whose it is."""
    return http(200, msgspec.json.encode({"reference": f"of {msgspec.json.decode(request.body)['id']}"}))


def own(number: int) -> Submitted:
    return Submitted(f"of {submission(number).message_id}")


async def submit(carrier: HttpCarrier, number: int) -> Outcome:
    (outcome,) = await carrier.submit_many([submission(number)])
    return outcome


def unasked(name: str) -> float | None:
    return REGISTRY.get_sample_value("tollwire_carrier_unasked_total", {"carrier": name})


LATE = {
    "the same again": http(200, OK).raw,
    "a refusal": http(400, b"{}").raw,
    "gone for being idle": http(408, headers={"Connection": "close"}).raw,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "only a line's end": b"\r\n",
}


@pytest.mark.parametrize("kind", LATE)
async def test_an_answer_that_nobody_asked_for_is_not_the_answer_to_the_next_submit(kind):
    name = f"unasked: {kind}"
    async with faulty_server(by_its_id) as server, carrier_at(server.url, name) as carrier:
        assert await submit(carrier, 1) == own(1)
        server.writers[0].write(LATE[kind])
        await server.until_connections(0)
        assert await submit(carrier, 2) == own(2)
        assert await submit(carrier, 3) == own(3)
        assert (server.connections_seen, unasked(name)) == (2, 1.0)


async def test_a_second_answer_in_the_same_packet_is_nobodys():
    def doubled(request: Request) -> Reply:
        answer = by_its_id(request)
        return Reply(answer.raw + http(200, OK).raw)

    async with faulty_server(doubled) as server, carrier_at(server.url, "doubled") as carrier:
        assert [await submit(carrier, number) for number in (1, 2)] == [own(1), own(2)]
        assert (server.connections_seen, unasked("doubled")) == (2, 2.0)


async def test_a_carrier_that_answers_once_keeps_its_connection():
    async with faulty_server(by_its_id) as server, carrier_at(server.url, "orderly") as carrier:
        assert [await submit(carrier, number) for number in (1, 2)] == [own(1), own(2)]
        assert (server.connections_seen, unasked("orderly")) == (1, 0.0)


@pytest.mark.parametrize(
    ("count", "outcome"),
    [
        (INFORMATIONAL_MAX, Submitted("r-1")),
        (INFORMATIONAL_MAX + 1, Uncertain("sent, but no answer came: ClientResponseError")),
    ],
)
async def test_so_many_informational_answers_are_waited_out_and_no_more(count, outcome):
    reply = Reply(CONTINUE * count + http(200, OK).raw)
    async with faulty_server(lambda _: reply) as server, carrier_at(server.url) as carrier:
        assert await submit(carrier, 1) == outcome
