"""Every outcome that a carrier can have, through the whole of Tollwire: state, money, callback."""

from collections import defaultdict
from collections.abc import Iterator

import pytest

from simulator.magic import magic_number
from simulator.outcomes import Outcome
from tests.support import metrics_table
from tests.support.api_client import Api
from tests.support.callback_sink import CallbackSink
from tests.support.instance import Instance, eventually
from tests.support.scrape import RARE, missing, scrape

# Of functions there are a few dozen, of everything else fewer.
SERIES_MAX = 60
FINAL = {"DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"}


@pytest.fixture(scope="module")
def api(running: Instance) -> Api:
    status = running.status()
    return Api(status["api_url"], status["demo_key"])


@pytest.fixture(scope="module")
def sink(api: Api) -> Iterator[CallbackSink]:
    with CallbackSink() as made:
        status, answer = api.ask("PUT", "/v1/callback", {"url": made.url})
        assert status in {200, 201}, answer
        made.secret = answer["secret"]
        yield made
        assert made.bad == []


@pytest.mark.parametrize(
    ("outcome", "state", "hold", "event"),
    [
        (Outcome.DELIVERED, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.UNDELIVERABLE, "UNDELIVERED", "RELEASED", "message.undelivered"),
        (Outcome.EXPIRED, "EXPIRED", "RELEASED", "message.expired"),
        (Outcome.REJECTED, "UNDELIVERED", "RELEASED", "message.undelivered"),
        (Outcome.ENROUTE_THEN_DELIVERED, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.REFUSED, "FAILED_PERM", "RELEASED", "message.failed"),
        (Outcome.TEMPORARY, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.THROTTLED, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.SLOW, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.CLOSES, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.GARBAGE, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.RECEIPT_FIRST, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.RECEIPT_TWICE, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.UNDELIVERED_AFTER_DELIVERED, "DELIVERED", "CAPTURED", "message.delivered"),
        (Outcome.DELIVERED_AFTER_UNDELIVERED, "UNDELIVERED", "RELEASED", "message.undelivered"),
        (Outcome.ENROUTE_AFTER_DELIVERED, "DELIVERED", "CAPTURED", "message.delivered"),
    ],
    ids=lambda value: value.value if isinstance(value, Outcome) else None,
)
def test_a_magic_number_ends_as_its_outcome_says(api, sink, outcome, state, hold, event):
    accepted = api.send(magic_number(outcome), client_ref=outcome.value)
    message = eventually(lambda: api.message(accepted["id"]), lambda message: message["status"] in FINAL)
    assert (message["status"], message["hold"]["state"]) == (state, hold)
    told = eventually(lambda: sink.told.get(accepted["id"]), bool)
    assert [callback["type"] for callback in told] == [event]
    assert told[0]["charged"] is (hold == "CAPTURED")
    assert told[0]["client_ref"] == outcome.value


def test_what_was_held_is_captured_or_released_to_the_micro(api, sink):
    eventually(lambda: api.ask("GET", "/v1/balance")[1], lambda balance: balance["open_holds"] == 0)
    balance = api.ask("GET", "/v1/balance")[1]
    assert balance["held"] == "0.0000"
    assert balance["posted"] == balance["available"]


def test_a_silent_carrier_keeps_the_hold(api, sink):
    accepted = api.send(magic_number(Outcome.SILENT))
    message = eventually(lambda: api.message(accepted["id"]), lambda message: message["status"] == "SENT")
    assert message["hold"]["state"] == "HELD"


def test_a_lost_answer_leaves_an_at_most_once_message_unknown_and_held(api, sink):
    accepted = api.send(magic_number(Outcome.CLOSES_LOST), delivery="at_most_once")
    seen = eventually(
        lambda: api.message(accepted["id"]), lambda message: message["status"] in {"UNKNOWN", "DELIVERED"}
    )
    assert seen["hold"]["state"] in {"HELD", "CAPTURED"}


def test_every_metric_that_is_documented_has_a_number_after_all_this(running, api, sink):
    """The last of the module: by now everything that is not rare has happened."""
    assert api.ask("GET", "/v1/messages/none")[0] == 404
    assert RARE.keys() <= {metric.name for metric in metrics_table.metrics()}
    eventually(
        lambda: missing(metrics_table.metrics(), list(scrape(running.status()))), lambda names: names == set()
    )


def test_no_label_tells_of_a_message_or_a_client(running, api, sink):
    accepted = api.send(magic_number(Outcome.DELIVERED), client_ref="a reference of the client's")
    eventually(lambda: api.message(accepted["id"]), lambda message: message["status"] in FINAL)
    values = defaultdict(set)
    for series in scrape(running.status()):
        for label, value in series.labels.items():
            values[label].add(value)
    told = "\n".join(value for found in values.values() for value in found)
    for secret in (accepted["id"], accepted["to"], "reference of the client"):
        assert secret not in told
    assert {label: len(found) for label, found in values.items() if len(found) > SERIES_MAX} == {}
