"""``kill -9`` of any one process in the middle of its work changes nothing but time.

The carrier recognises a repeated id here, so that what is uncertain is simply asked again; the verdict
comes from the carrier's own log, from the callbacks, and from the books.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from shared.domain.money import parse_micros
from tests.support.api_client import Api
from tests.support.callback_sink import CallbackSink
from tests.support.carrier_control import change_the_carrier, submits_at_the_carrier, tell_the_simulator
from tests.support.instance import Instance, eventually

MESSAGES = 100
POLL_SECONDS = 0.1
# A claim's deadline, the margin behind it, a turn of the clockwork, and the retry.
SETTLED_SECONDS = 120.0
VICTIMS = ["worker", "dlr", "api", "ledger", "simulator", "nats", "valkey", "postgresql"]
# Real numbers of two countries; every one is delivered by the simulator's own rule.
NUMBERS = [f"+49151{20000000 + n}" for n in range(MESSAGES)]


@pytest.fixture(scope="module")
def api(running: Instance) -> Api:
    status = running.status()
    tell_the_simulator(running.home, {"recognise_repeated_id": True, "latency_seconds": 0.05})
    change_the_carrier(running.home, {"idempotent_submit": True, "submit_deadline_seconds": 4})
    return Api(status["api_url"], status["demo_key"])


@pytest.fixture(scope="module")
def sink(api: Api) -> Iterator[CallbackSink]:
    with CallbackSink() as made:
        status, answer = api.ask("PUT", "/v1/callback", {"url": made.url})
        assert status in {200, 201}, answer
        made.secret = answer["secret"]
        yield made
        assert made.bad == []


def send_batch(api: Api, name: str) -> list[str]:
    """Send the batch until every item is accepted; return the ids. The key makes repeats harmless."""
    body = {"messages": [{"to": to, "text": f"kill {name} {n}"} for n, to in enumerate(NUMBERS)]}

    def attempt() -> Any:
        try:
            return api.ask("POST", "/v1/messages/batch", body, Idempotency_Key=f'"kills-{name}"')
        except OSError as error:
            return 0, str(error)

    _, answer = eventually(attempt, lambda answer: answer[0] == 202 and answer[1]["accepted"] == MESSAGES)
    return [result["id"] for result in answer["results"]]


def status_of(api: Api, message_id: str) -> str:
    """The message's status, or what the API says instead while a part of it is down."""
    try:
        status, answer = api.ask("GET", f"/v1/messages/{message_id}")
    except OSError as error:
        return str(error)
    return str(answer["status"] if status == 200 else answer["code"])


def wait_until_delivered(api: Api, ids: list[str]) -> None:
    """Ask for each in turn, so that the polling stays far below the client's own limit."""
    until = time.monotonic() + SETTLED_SECONDS
    for id_ in ids:
        while (status := status_of(api, id_)) != "DELIVERED":
            assert time.monotonic() < until, f"{id_} is {status}"
            time.sleep(POLL_SECONDS)


def kill_in_the_middle(running: Instance, api: Api, victim: str) -> list[str]:
    """Send a batch, kill the victim while it is carried, and wait until everything is up again."""
    pid = running.pid_of(victim)
    ids = send_batch(api, victim)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: running.pid_of(victim), lambda again: again not in {0, pid})
    eventually(running.status, lambda status: status["exit"] == 0)
    return ids


@pytest.mark.timeout(300)
def test_each_process_killed_in_its_turn_costs_time_and_nothing_else(running, api, sink):
    before = api.ask("GET", "/v1/balance")[1]
    ids = [id_ for victim in VICTIMS for id_ in kill_in_the_middle(running, api, victim)]
    wait_until_delivered(api, ids)

    taken = submits_at_the_carrier(running.home)
    assert Counter(taken[id_] for id_ in ids) == {1: len(ids)}, "once at the carrier"
    eventually(lambda: Counter(len(sink.told.get(id_, [])) for id_ in ids), lambda told: set(told) == {1})
    balance = eventually(
        lambda: api.ask("GET", "/v1/balance")[1], lambda balance: balance["held"] == "0.0000"
    )
    spent = parse_micros(before["posted"]) - parse_micros(balance["posted"])
    assert spent == len(ids) * parse_micros(api.message(ids[0])["price"]["amount"])
