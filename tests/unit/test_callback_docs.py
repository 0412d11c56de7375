"""docs/callbacks.md says what is so: its example, its vector, its schedule, and its Python."""

import json
import re
import time
from pathlib import Path
from typing import Any

from dlr.bodies import DETAILS
from shared.domain.callback_events import DEFAULT_EVENT_TYPES, EventType, payload_of
from shared.domain.retry import CALLBACK_SCHEDULE_SECONDS
from shared.domain.signatures import new_secret, parse_secret, signature_list, verify
from tests.unit.test_callback_events import EVENT
from worker.carriers.base import BUSY, UNREACHABLE, Refused, Throttled, Uncertain
from worker.words import verdict

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
# Words for the journal of money alone.
KINDS_OF_ENTRIES = {"submitted", "release"}
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


def codes_of(table: str) -> set[str]:
    """The codes in the first column of a table of the chapter, by the table's position."""
    [chapter] = re.findall(r"^## Why a message was not delivered\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    [rows] = re.findall(rf"^\| code \| {table}.*?\n\n", chapter, re.DOTALL | re.MULTILINE)
    cells = [row.split("|")[1] for row in rows.splitlines()[2:] if row]
    return {code for cell in cells for code in re.findall(r"`(\w+)`", cell)}


def codes_of_the_functions() -> set[str]:
    """What the server functions write as a message's error, or as the reason of its end."""
    found: set[str] = set()
    for path in ROOT.glob("*/functions/*.sql"):
        for line in path.read_text(encoding="utf-8").splitlines():
            found.update(re.findall(r"(?:error_code = |array_fill\()'(\w+)'(?!::tollwire|::ledger)", line))
            if "reason" in line:
                found.update(re.findall(r"(?:then|else|,) '([a-z_]+)'", line))
    return found - KINDS_OF_ENTRIES


def codes_of_the_worker() -> set[str]:
    outcomes = (Throttled(None), Uncertain(""), Refused(BUSY, "", permanent=False, is_ours=True))
    found = {verdict(outcome, 1, 1, 0.0)[1] for outcome in outcomes} | {UNREACHABLE}
    given_back = (ROOT / "worker" / "submit.py").read_text(encoding="utf-8")
    return found | set(re.findall(r"claim\.attempt_no, 1, word, None, \"(\w+)\"", given_back))


def test_every_code_of_a_message_is_explained() -> None:
    ended, waits = codes_of("what happened"), codes_of("what it waits for")

    assert ended == set(DETAILS)
    assert ended | waits == codes_of_the_functions() | codes_of_the_worker()
    assert {"throttled", BUSY, "carrier_away", "worker_lost", "not_asked_again"} <= waits - ended


def test_no_sentence_beside_a_code_says_whether_it_was_charged() -> None:
    """`charged` does: a late receipt changes it, and is told with the same code and sentence."""
    assert [code for code, detail in DETAILS.items() if "charge" in detail.lower()] == []


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
