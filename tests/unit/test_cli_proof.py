"""The books of a send: right when each hold ends once, at its price, the right way; else what is wrong."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from api.read_schemas import Entry
from cli.journal import Snapshot
from cli.proof import Books, books
from cli.send_progress import Accepted
from shared.domain.money import format_micros

BEFORE = Snapshot("EUR", posted_micros=1_000_000, held_micros=0, version=10, is_quiet=True)


def id_of(number: int) -> str:
    return str(UUID(int=number))


def sent(*amounts: int) -> list[Accepted]:
    return [Accepted(place, id_of(place), 1, amount, False) for place, amount in enumerate(amounts)]


def entry(version: int, kind: str, message: int | None, micros: int, reason: str | None = None) -> Entry:
    return Entry(
        version=version, at="2026-11-21T10:00:00.000Z", kind=kind, amount=format_micros(micros),
        message_id=None if message is None else UUID(int=message), posted_after="0.0000", held_after="0.0000",
        reference=None, reason=reason,
    )  # fmt: skip


def after(posted_micros: int, *, held_micros: int = 0, version: int = 100) -> Snapshot:
    return Snapshot("EUR", posted_micros, held_micros, version, is_quiet=True)


def made(
    states: Sequence[str], entries: Sequence[Entry], ended: Snapshot, before: Snapshot = BEFORE
) -> Books:
    messages = sent(*(100 + place for place in range(len(states))))
    return books(
        messages, {id_of(place): state for place, state in enumerate(states)}, entries, before, ended
    )


def test_delivered_is_captured_and_all_else_released():
    entries = [
        entry(14, "release", 1, 101, "undelivered"),
        entry(13, "capture", 0, 100, "delivered"),
        entry(12, "hold", 1, 101),
        entry(11, "hold", 0, 100),
    ]
    found = made(["DELIVERED", "UNDELIVERED"], entries, after(999_900))
    assert found.is_right, found.faults
    assert (found.captured.micros, found.released.micros, found.delivered.micros) == (100, 101, 100)
    assert found.balance_moved == found.captured
    assert [(line.state, line.count, line.captured.micros) for line in found.lines] == [
        ("DELIVERED", 1, 100),
        ("UNDELIVERED", 1, 0),
    ]


@pytest.mark.parametrize(
    ("state", "entries", "words"),
    [
        ("DELIVERED", [], "has 0 entries that end its hold"),
        ("DELIVERED", [entry(11, "release", 0, 100)], "was delivered, and its 0.0001 was released"),
        (
            "UNDELIVERED",
            [entry(11, "capture", 0, 100, "delivered")],
            "is UNDELIVERED, and its 0.0001 was captured",
        ),
        ("DELIVERED", [entry(11, "capture", 0, 99, "delivered")], "was booked with 0.000099"),
        (
            "DELIVERED",
            [entry(12, "capture", 0, 100, "delivered"), entry(11, "release", 0, 100)],
            "has 2 entries that end its hold",
        ),
    ],
)
def test_a_hold_that_ended_wrongly_is_named(state, entries, words):
    found = made([state], entries, after(999_900))
    assert not found.is_right
    assert any(words in fault for fault in found.faults), found.faults


def test_a_balance_that_moved_otherwise_by_one_micro_is_a_fault():
    found = made(["DELIVERED"], [entry(11, "capture", 0, 100, "delivered")], after(999_899))
    assert found.faults == ["the balance moved by 0.000101 EUR; captured is 0.0001 EUR"]


def test_a_hold_that_stays_is_a_fault():
    found = made(["EXPIRED"], [entry(11, "release", 0, 100)], after(1_000_000, held_micros=100))
    assert found.faults == ["0.0001 EUR more is held than before, though every message is final"]


def test_the_balance_is_not_compared_when_others_moved_it():
    entries = [entry(12, "hold", 77, 5), entry(11, "capture", 0, 100, "delivered")]
    found = made(["DELIVERED"], entries, after(999_000))
    assert found.is_right
    assert (found.balance_moved, found.other_entries) == (None, 1)


def test_entries_of_others_from_before_do_not_count():
    entries = [entry(11, "capture", 0, 100, "delivered"), entry(9, "hold", 77, 5)]
    assert made(["DELIVERED"], entries, after(999_900)).other_entries == 0


def test_messages_that_were_sent_before_the_first_look_are_proved_without_the_balance():
    found = made(["DELIVERED"], [entry(9, "capture", 0, 100, "delivered")], after(1_000_000))
    assert found.is_right
    assert found.balance_moved is None


def test_an_account_that_never_stood_still_is_not_compared():
    restless = Snapshot("EUR", 1_000_000, 0, 10, is_quiet=False)
    found = made(["DELIVERED"], [entry(11, "capture", 0, 100, "delivered")], after(1), restless)
    assert found.is_right
    assert found.balance_moved is None


def test_what_came_after_the_last_look_does_not_count():
    entries = [entry(101, "late_capture", 0, 100), entry(11, "release", 0, 100)]
    found = made(["EXPIRED"], entries, after(1_000_000))
    assert found.is_right
    assert found.late.micros == 0


def test_a_late_receipt_is_charged_after_the_release():
    entries = [entry(12, "late_capture", 0, 100), entry(11, "release", 0, 100)]
    found = made(["EXPIRED"], entries, after(999_900))
    assert found.is_right
    assert (found.captured.micros, found.released.micros, found.late.micros) == (100, 100, 100)


@pytest.mark.parametrize("reason", ["submitted", "delivered_in_part", "no_receipt"])
def test_what_a_plan_charges_without_a_delivery_is_right_and_told_apart(reason):
    found = made(["UNDELIVERED"], [entry(11, "capture", 0, 100, reason)], after(999_900))
    assert found.is_right
    assert (found.delivered.micros, found.by_plan.micros) == (0, 100)


def test_books_with_open_messages_are_not_right_yet():
    found = made(["DELIVERED", "SENT"], [entry(12, "capture", 0, 100, "delivered")], after(999_900))
    assert (found.open_count, found.faults, found.is_right) == (1, [], False)
