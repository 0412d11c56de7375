"""A worker killed while the carrier has its messages, and the carrier neither knows ids nor echoes them.

Then nobody can know what became of them, and each message's policy decides: ``at_most_once`` is never sent
again and not charged, ``at_least_once`` is sent once more and says so. The carrier's own log is the witness.
"""

import os
import signal
from collections import Counter

import pytest

from tests.support.api_client import Api
from tests.support.carrier_control import change_the_carrier, submits_at_the_carrier, tell_the_simulator
from tests.support.instance import Instance, eventually

MESSAGES = 20
# The carrier answers so late that the kill falls between its taking them and its answer.
RULES = {"latency_seconds": 10.0, "echo_message_id": False}
CARRIER = {"submit_deadline_seconds": 15, "receipt_wait_seconds": 3}


@pytest.fixture(scope="module")
def api(running: Instance) -> Api:
    tell_the_simulator(running.home, RULES)
    change_the_carrier(running.home, CARRIER)
    status = running.status()
    return Api(status["api_url"], status["demo_key"])


@pytest.fixture(scope="module")
def killed(running: Instance, api: Api) -> dict[str, list[str]]:
    """The ids by policy; when they are returned, all are final."""
    eventually(running.status, lambda status: status["exit"] == 0)
    pid = running.pid_of("worker")
    ids = {}
    for number, policy in enumerate(("at_most_once", "at_least_once")):
        messages = [
            {"to": f"+49151{30000000 + number * MESSAGES + n}", "text": policy, "delivery": policy}
            for n in range(MESSAGES)
        ]
        status, answer = api.ask("POST", "/v1/messages/batch", {"messages": messages})
        assert status == 202, answer
        ids[policy] = [result["id"] for result in answer["results"]]
    everything = [id_ for some in ids.values() for id_ in some]
    eventually(lambda: len(submits_at_the_carrier(running.home)), lambda taken: taken == len(everything))
    os.kill(pid, signal.SIGKILL)
    final = {"DELIVERED", "FAILED_PERM"}
    eventually(running.status, lambda status: status["exit"] == 0)
    # The outbox's lease, a minute from the acceptance, is when the clockwork looks at what was dropped.
    eventually(lambda: states(api), lambda seen: "SENDING" not in seen)
    eventually(lambda: states(api), lambda seen: set(seen) <= final)
    return ids


def states(api: Api) -> Counter[str]:
    """How many messages are in which state."""
    status, answer = api.ask("GET", "/v1/messages?limit=1000")
    assert status == 200, answer
    return Counter(message["status"] for message in answer["messages"])


@pytest.mark.timeout(240)
def test_at_most_once_is_never_sent_again_and_not_charged(running, api, killed):
    taken = submits_at_the_carrier(running.home)
    for id_ in killed["at_most_once"]:
        message = api.message(id_)
        assert taken[id_] == 1
        assert (message["status"], message["hold"]["state"]) == ("FAILED_PERM", "RELEASED")
        assert message["error"] == "outcome_unknown"
        assert message["possible_duplicate"] is False


@pytest.mark.timeout(240)
def test_at_least_once_is_sent_once_more_and_says_so(running, api, killed):
    taken = submits_at_the_carrier(running.home)
    for id_ in killed["at_least_once"]:
        message = api.message(id_)
        assert taken[id_] == 2
        assert (message["status"], message["hold"]["state"]) == ("DELIVERED", "CAPTURED")
        assert message["possible_duplicate"] is True
