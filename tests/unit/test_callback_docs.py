"""docs/callbacks.md says what is so: its example, its vector, its schedule, and its Python."""

import json
import re
import time
from pathlib import Path
from typing import Any

from shared.domain.callback_events import DEFAULT_EVENT_TYPES, EventType, payload_of
from shared.domain.retry import CALLBACK_SCHEDULE_SECONDS
from shared.domain.signatures import new_secret, parse_secret, signature_list, verify
from tests.unit.test_callback_events import EVENT

PAGE = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
SECONDS = {"s": 1, "min": 60, "h": 3_600}


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    [found] = [text for text in blocks if containing in text]
    return str(found)


def test_the_example_is_what_is_sent() -> None:
    assert json.loads(block("json", "message.delivered")) == json.loads(payload_of(EVENT))


def test_the_vector_verifies() -> None:
    head = dict(re.findall(r"^(webhook-[a-z]+): (.*)$", block("", "webhook-id: msg_"), re.MULTILINE))
    [secret] = re.findall(r"the secret `(whsec_[^`]+)`", PAGE)
    [body] = re.findall(r"and the body `([^`]+)`", PAGE)

    verify(head, body.encode(), [parse_secret(secret)], int(head["webhook-timestamp"]))


def test_the_schedule_is_the_one_that_is_kept() -> None:
    [row] = re.findall(r"^\| after \| at once \| (.*) \|$", PAGE, re.MULTILINE)
    pairs = [cell.strip().split(" ") for cell in row.split("|")]

    assert [0, *[int(number) * SECONDS[unit] for number, unit in pairs]] == list(CALLBACK_SCHEDULE_SECONDS)
    hours, rest = divmod(sum(CALLBACK_SCHEDULE_SECONDS), 3_600)
    assert f"{hours} hours and {rest // 60} minutes" in PAGE


def test_every_event_that_is_sent_is_explained() -> None:
    told = set(re.findall(r"`((?:message|callback)\.[a-z_]+)`", PAGE))

    assert told == {event.value for event in EventType} - {EventType.BALANCE_LOW}
    by_default = [line for line in PAGE.splitlines() if line.endswith("unless you choose otherwise |")]
    assert set(re.findall(r"`(message\.[a-z_]+)`", "\n".join(by_default))) == DEFAULT_EVENT_TYPES


def test_the_python_receiver_works_as_printed() -> None:
    remembered: list[Any] = []
    names: dict[str, Any] = {"remember": lambda webhook_id, event: remembered.append((webhook_id, event))}
    exec(block("python", "def receive"), names)  # the page's own code
    secret, body, now = new_secret(b"s" * 32), payload_of(EVENT), int(time.time())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature_list([parse_secret(secret)], "msg_1", now, body),
    }

    assert names["receive"](headers, body, secret) == 204
    assert remembered == [("msg_1", json.loads(body))]
    assert names["receive"](headers, body + b" ", secret) == 401
