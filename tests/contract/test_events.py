"""What goes over the wire: each version of each event has a golden file, which is never edited.

A new field with a default keeps the version, and the old files still read. A field that changes its
meaning or goes is a new version: a new file beside the old ones.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.events import bundles, dead_letters, facts, receipts
from shared.events.wire import MalformedEvent, encode
from shared.runtime.streams import MESSAGE_BYTES_MAX

GOLDEN = Path(__file__).parent / "golden"
ID_ONE, ID_TWO = "0193e0a0c5007abc8def000000000001", "0193e0a0c5007abc8def000000000002"
AT = datetime(2026, 11, 21, 10, 0, 0, 123000, tzinfo=UTC)

Event = tuple[str, msgspec.Struct, Callable[[bytes], Any]]

EVENTS: list[Event] = [
    (
        "bundle.v1",
        bundles.Bundle(lane="express", carrier_id=7, work=[(ID_ONE, 1), (ID_TWO, 12)]),
        bundles.decode,
    ),
    (
        "receipt_bundle.v1",
        receipts.ReceiptBundle(carrier_id=7, receipt_ids=[ID_ONE, ID_TWO]),
        receipts.decode,
    ),
    (
        "fact_bundle.v1",
        facts.FactBundle(
            facts=[
                facts.Fact(
                    message_id=ID_ONE,
                    client_id=42,
                    status="DELIVERED",
                    at=AT,
                    region="DE",
                    lane="express",
                    segments=2,
                    amount_micros=150_000,
                    currency="EUR",
                    carrier_id=7,
                    attempt_no=1,
                    error=None,
                    msisdn_hash="9f86d081884c7d65",
                ),
                facts.Fact(
                    message_id=ID_TWO,
                    client_id=42,
                    status="FAILED_PERM",
                    at=AT,
                    region="FR",
                    lane="bulk",
                    segments=1,
                    amount_micros=75_000,
                    currency="EUR",
                    error="no_route",
                ),
            ]
        ),
        facts.decode,
    ),
    (
        "dead_letter.v1",
        dead_letters.DeadLetter(
            message_id=ID_ONE, client_id=42, reason="attempts_exhausted", attempts=10, at=AT
        ),
        dead_letters.decode,
    ),
]
each_event = pytest.mark.parametrize(("name", "event", "decode"), EVENTS, ids=[name for name, _, _ in EVENTS])


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


@each_event
def test_an_event_is_written_as_its_golden_file_says(
    name: str, event: msgspec.Struct, decode: Callable[[bytes], Any]
) -> None:
    assert msgspec.json.format(encode(event), indent=2) + b"\n" == golden(name)


@each_event
def test_a_golden_file_reads_as_the_event(
    name: str, event: msgspec.Struct, decode: Callable[[bytes], Any]
) -> None:
    assert decode(golden(name)) == event


@each_event
def test_fields_of_a_later_time_are_ignored(
    name: str, event: msgspec.Struct, decode: Callable[[bytes], Any]
) -> None:
    later = msgspec.json.decode(golden(name))
    later["priority"] = {"new": [1, None]}
    assert decode(msgspec.json.encode(later)) == event


@each_event
def test_another_version_is_refused_by_name(
    name: str, event: msgspec.Struct, decode: Callable[[bytes], Any]
) -> None:
    later = msgspec.json.decode(golden(name)) | {"v": 2}
    with pytest.raises(MalformedEvent, match="of version 2; this process reads 1"):
        decode(msgspec.json.encode(later))


@each_event
def test_a_missing_field_is_malformed(
    name: str, event: msgspec.Struct, decode: Callable[[bytes], Any]
) -> None:
    whole = msgspec.json.decode(golden(name))
    for field in whole.keys() - {"v"}:
        without = {key: value for key, value in whole.items() if key != field}
        with pytest.raises(MalformedEvent, match=field):
            decode(msgspec.json.encode(without))


def test_every_golden_file_belongs_to_an_event() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {name for name, _, _ in EVENTS}


@pytest.mark.parametrize(
    "work",
    [
        [],
        [[ID_ONE, 1]] * (bundles.BUNDLE_MAX + 1),
        [["0193E0A0C5007ABC8DEF000000000001", 1]],
        [["0193e0a0-c500-7abc-8def-000000000001", 1]],
        [[ID_ONE, 0]],
        [[ID_ONE, 2**31]],
        [[ID_ONE]],
    ],
    ids=["none", "too many", "upper case", "dashes", "number 0", "number too large", "no number"],
)
def test_work_that_no_claim_could_take_is_malformed(work: list[list[object]]) -> None:
    payload = msgspec.json.encode({"lane": "express", "carrier_id": 7, "work": work})
    with pytest.raises(MalformedEvent):
        bundles.decode(payload)


def test_a_time_without_its_zone_is_malformed() -> None:
    payload = golden("dead_letter.v1").replace(b"123000Z", b"123000")
    with pytest.raises(MalformedEvent, match="timezone"):
        dead_letters.decode(payload)


def test_a_full_bundle_and_full_facts_fit_a_message_of_the_stream() -> None:
    full = bundles.Bundle(lane="express", carrier_id=7, work=[(ID_ONE, 2**31 - 1)] * bundles.BUNDLE_MAX)
    assert len(encode(full)) < MESSAGE_BYTES_MAX // 10
    fact = facts.decode(golden("fact_bundle.v1")).facts[0]
    assert len(encode(facts.FactBundle(facts=[fact] * facts.BUNDLE_MAX))) < MESSAGE_BYTES_MAX // 2
