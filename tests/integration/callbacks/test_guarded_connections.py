"""Which address a callback really goes to: names that resolve inside, names that change their mind."""

import asyncio
import socket
import subprocess
import sys
import threading
from uuid import UUID

import pytest

from dlr.guard import ADDRESSES_MAX
from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from dlr.resolver import Resolver, look_up
from shared.domain.callbacks import Posted, Rejected, RejectReason
from tests.support.endpoints import answer, endpoint, says

LAPTOP = CallbackSettings(callback_allow_private=True)
NAME = "hooks.example.com"
STOP_SECONDS = 30.0


def delivery(url: str) -> Delivery:
    return Delivery(UUID(int=1), 7, url, (b"s" * 32,), b"{}")


class Names:
    """A name server that gives one list of addresses after another, then the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def strict(port: int) -> CallbackSettings:
    return CallbackSettings(callback_https_only=False, callback_ports=(port,))


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.5"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%lo"],
        ["fd00:ec2::254"],
        ["0.0.0.0"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["2606:4700:4700::1111", "::1"],
    ],
)
async def test_a_name_that_leads_inside_is_never_connected_to(addresses: list[str]) -> None:
    names = Names(addresses)
    async with (
        endpoint(says(answer())) as inside,
        CallbackPoster(strict(inside.port), resolve=names) as poster,
    ):
        outcome = await poster.post(delivery(inside.url(NAME)))

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.resolved_ip) == (RejectReason.ADDRESS_BLOCKED, None)
    assert inside.connections == 0
    assert not any(address in outcome.detail for address in addresses), "the client learns no inner address"


async def test_a_name_that_changes_its_mind_is_asked_once_and_taken_at_its_first_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    connected: list[object] = []

    async def sock_connect(sock: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    async with (
        endpoint(says(answer())) as inside,
        CallbackPoster(strict(inside.port), resolve=names) as poster,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
            first = await poster.post(delivery(inside.url(NAME)))
        second = await poster.post(delivery(inside.url(NAME)))

    assert connected == [("8.8.8.8", inside.port)]
    assert names.asked == [f"{NAME}.", f"{NAME}."], "one look-up an attempt, and an absolute name"
    assert isinstance(first, Rejected)
    assert isinstance(second, Rejected)
    assert (first.reason, first.resolved_ip) == (RejectReason.CONNECT_FAILED, "8.8.8.8")
    assert second.reason is RejectReason.ADDRESS_BLOCKED
    assert inside.connections == 0


async def test_a_new_connection_is_checked_anew_even_for_an_endpoint_that_was_fine() -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with (
        endpoint(says(answer(200, b"", "Connection: close"))) as it,
        CallbackPoster(LAPTOP, resolve=names) as poster,
    ):
        first = await poster.post(delivery(it.url(NAME)))
        second = await poster.post(delivery(it.url(NAME)))

    assert isinstance(first, Posted)
    assert first.resolved_ip == "127.0.0.1"
    assert it.requests[0].headers["host"] == f"{NAME}:{it.port}"
    assert isinstance(second, Rejected)
    assert second.reason is RejectReason.ADDRESS_BLOCKED
    assert it.connections == 1


async def test_an_address_that_refuses_leaves_the_next_a_chance() -> None:
    names = Names(["::1", "127.0.0.1"])
    async with endpoint(says(answer())) as it, CallbackPoster(LAPTOP, resolve=names) as poster:
        outcome = await poster.post(delivery(it.url(NAME)))

    assert isinstance(outcome, Posted)
    assert outcome.resolved_ip == "127.0.0.1"


async def test_a_name_with_many_addresses_is_tried_at_a_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[object] = []

    async def sock_connect(sock: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    names = Names([f"8.8.8.{number}" for number in range(1, 100)])
    async with CallbackPoster(CallbackSettings(), resolve=names) as poster:
        await poster.post(delivery(f"https://{NAME}/"))

    assert len(connected) == ADDRESSES_MAX


@pytest.mark.parametrize("addresses", [[], ["not an address"]])
async def test_a_name_without_an_address_is_rejected(addresses: list[str]) -> None:
    async with CallbackPoster(CallbackSettings(), resolve=Names(addresses)) as poster:
        outcome = await poster.post(delivery(f"https://{NAME}/"))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.NAME_NOT_RESOLVED
    assert outcome.detail == f"{NAME} has no address"


async def test_the_real_resolver_knows_localhost() -> None:
    async with endpoint(says(answer())) as it, CallbackPoster(LAPTOP) as poster:
        outcome = await poster.post(delivery(it.url("localhost")))

    assert isinstance(outcome, Posted)
    assert "127.0.0.1" in look_up("localhost")


async def test_a_name_server_that_hangs_on_one_name_holds_no_other_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: object, **more: int) -> object:
        asked.append(host)
        if host == "dead.example.com":
            released.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        return real("127.0.0.1", None, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver()
    dead = [asyncio.create_task(resolver("dead.example.com")) for _ in range(500)]
    alive = [await resolver(f"alive{number}.example.com") for number in range(100)]
    released.set()
    failures = await asyncio.gather(*dead, return_exceptions=True)
    resolver.close()

    assert alive == [["127.0.0.1"]] * 100
    assert asked.count("dead.example.com") == 1
    assert all(isinstance(failure, OSError) for failure in failures)


STOP_WHILE_A_NAME_SERVER_IS_DEAD = """
import asyncio, socket, threading
from dlr.resolver import Resolver

asked = threading.Event()

def never_answers(*_):
    asked.set()
    threading.Event().wait()

async def main():
    socket.getaddrinfo = lambda *_, **__: never_answers()
    resolver = Resolver()
    looking_up = asyncio.ensure_future(resolver("dead.example.com"))
    await asyncio.to_thread(asked.wait)
    looking_up.cancel()
    resolver.close()

asyncio.run(main())
print("stopped", flush=True)
"""


def test_a_dead_name_server_does_not_hold_the_end_of_the_process() -> None:
    command = [sys.executable, "-c", STOP_WHILE_A_NAME_SERVER_IS_DEAD]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=STOP_SECONDS, check=True)
    assert (ended.stdout, ended.stderr) == ("stopped\n", "")
