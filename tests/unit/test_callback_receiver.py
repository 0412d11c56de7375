"""What `tollwire listen` makes of a request, and how it shows it."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import pytest

from cli.callback_lines import json_line, people_line
from cli.callback_receiver import IDS_REMEMBERED_MAX, Received, Receiver
from shared.domain.signatures import signature_list

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC).timestamp()
SECRET, OTHER = b"s" * 32, b"o" * 32
DATA: dict[str, Any] = {
    "id": "0193a5b0-0000-7000-8000-000000000001",
    "status": "DELIVERED",
    "to": "+4915112345678",
    "from": "ACME",
    "client_ref": "order-1",
    "price": {"amount": "0.0750", "currency": "EUR"},
    "charged": True,
    "error": None,
    "possible_duplicate": False,
    "sequence": 2,
}


def body_of(kind: str = "message.delivered", **changes: Any) -> bytes:
    return json.dumps(
        {"type": kind, "timestamp": "2026-11-21T10:00:00.000Z", "data": DATA | changes}
    ).encode()


def receiver(*secrets: bytes, status: int = 200) -> Receiver:
    return Receiver(secrets or (SECRET,), status, lambda _: None, lambda: NOW)


def judge(
    it: Receiver, body: bytes, webhook_id: str = "msg_1", secret: bytes = SECRET, **headers: str
) -> Received:
    signed = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": signature_list([secret], webhook_id, int(NOW), body),
    }
    return it.judge(signed | headers, body)


def shown(received: Received) -> str:
    return click.unstyle(people_line(received))


def test_a_verified_callback_is_answered_as_asked_and_shown_in_a_line() -> None:
    received = judge(receiver(), body_of())

    assert (received.is_verified, received.answered, received.times_seen) == (True, 200, 1)
    line = shown(received)
    assert "✓ message.delivered" in line
    assert "+4915112345678" in line
    assert "0.0750 EUR charged" in line
    assert "#2" in line
    assert "order-1" in line


def test_a_repetition_is_told_by_its_webhook_id() -> None:
    it = receiver()
    judge(it, body_of())

    again = judge(it, body_of())
    another = judge(it, body_of(), "msg_2")

    assert (again.times_seen, another.times_seen) == (2, 1)
    assert "the same again, 2 times now" in shown(again)
    assert (it.verified, it.repeated, it.refused) == (3, 1, 0)


def test_a_bad_signature_is_answered_401_with_the_reason_and_nothing_of_the_body_is_shown() -> None:
    received = judge(receiver(), body_of(client_ref="FORGED"), secret=OTHER)

    assert (received.is_verified, received.answered, received.event) == (False, 401, None)
    line = shown(received)
    assert "✗ bad signature" in line
    assert "no signature fits" in line
    assert "FORGED" not in line


def test_a_request_without_the_headers_is_refused() -> None:
    received = receiver().judge({}, body_of())

    assert received.why_not == "the header webhook-id is missing"


def test_in_a_rotation_either_secret_is_believed() -> None:
    it = receiver(SECRET, OTHER)

    assert judge(it, body_of(), "msg_1", SECRET).is_verified
    assert judge(it, body_of(), "msg_2", OTHER).is_verified


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"not json"])
def test_what_is_signed_but_no_json_object_is_refused(body: bytes) -> None:
    assert judge(receiver(), body).why_not == "signed, but the body is no JSON object"


def test_an_answer_that_is_no_success_says_that_it_will_come_again() -> None:
    assert "answered 500: it will come again" in shown(judge(receiver(status=500), body_of()))


def test_an_error_and_a_possible_duplicate_are_shown() -> None:
    error = {"code": "undelivered", "detail": "…"}
    line = shown(
        judge(receiver(), body_of("message.undelivered", charged=False, error=error, possible_duplicate=True))
    )

    assert "not charged" in line
    assert "undelivered" in line
    assert "possible duplicate" in line


def test_a_test_callback_shows_its_note() -> None:
    body = json.dumps({"type": "callback.test", "data": {"note": "This is a test."}}).encode()

    assert shown(judge(receiver(), body)).endswith("✓ callback.test         This is a test.")


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {"to": 1, "price": "?"}}])
def test_an_event_of_another_shape_is_shown_as_well_as_it_goes(data: dict[str, Any]) -> None:
    assert "✓" in shown(judge(receiver(), json.dumps(data).encode()))


def test_no_client_ref_moves_the_terminals_cursor() -> None:
    line = people_line(judge(receiver(), body_of(client_ref="\x1b[2J\r\nx")))

    assert "\x1b[2J" not in line
    assert "\n" not in line


def test_a_program_reads_one_object_a_line() -> None:
    line = json_line(judge(receiver(), body_of()))
    told = json.loads(line)

    assert "\n" not in line
    assert (told["verified"], told["why_not"], told["answered"], told["times_seen"]) == (True, None, 200, 1)
    assert told["webhook_id"] == "msg_1"
    assert told["event"]["data"] == DATA


def test_the_memory_of_ids_is_bounded() -> None:
    it = receiver()
    for number in range(IDS_REMEMBERED_MAX + 1):
        judge(it, b"{}", f"msg_{number}")

    assert judge(it, b"{}", "msg_0").times_seen == 1
    assert judge(it, b"{}", f"msg_{IDS_REMEMBERED_MAX}").times_seen == 2
