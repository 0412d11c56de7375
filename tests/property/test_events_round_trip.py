"""An event that was written reads as itself; bytes that are none raise MalformedEvent and nothing else."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import bundles, dead_letters, facts, receipts
from shared.events.wire import MalformedEvent, encode

hex_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
carrier_ids = st.integers(1, 32_767)
lanes = st.sampled_from(["express", "normal", "bulk"])
times = st.datetimes(timezones=st.just(UTC))
words = st.text(max_size=30)
large = st.integers(-(2**63), 2**63 - 1)
small = st.integers(0, 32_767)

facts_of_any_kind = st.builds(
    facts.Fact,
    message_id=hex_ids,
    client_id=large,
    status=words,
    at=times,
    region=words,
    lane=words,
    segments=small,
    amount_micros=large,
    currency=words,
    carrier_id=st.none() | carrier_ids,
    attempt_no=small,
    error=st.none() | words,
    msisdn_hash=st.none() | words,
)
events = st.one_of(
    st.builds(
        bundles.Bundle,
        lane=lanes,
        carrier_id=carrier_ids,
        work=st.lists(st.tuples(hex_ids, st.integers(1, 2**31 - 1)), min_size=1, max_size=bundles.BUNDLE_MAX),
    ),
    st.builds(
        receipts.ReceiptBundle,
        carrier_id=carrier_ids,
        receipt_ids=st.lists(hex_ids, min_size=1, max_size=500),
    ),
    st.builds(facts.FactBundle, facts=st.lists(facts_of_any_kind, min_size=1, max_size=facts.BUNDLE_MAX)),
    st.builds(
        dead_letters.DeadLetter, message_id=hex_ids, client_id=large, reason=words, attempts=small, at=times
    ),
)
DECODERS: dict[type, Callable[[bytes], Any]] = {
    bundles.Bundle: bundles.decode,
    receipts.ReceiptBundle: receipts.decode,
    facts.FactBundle: facts.decode,
    dead_letters.DeadLetter: dead_letters.decode,
}
each_decoder = pytest.mark.parametrize("decode", DECODERS.values(), ids=lambda decode: decode.__qualname__)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = sorted({field.name for kind in DECODERS for field in msgspec.structs.fields(kind)})


@given(events)
def test_what_was_written_reads_as_itself(event: msgspec.Struct) -> None:
    assert DECODERS[type(event)](encode(event)) == event


@each_decoder
@given(payload=st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(decode: Callable[[bytes], Any], payload: bytes) -> None:
    read_or_refuse(decode, payload)


@each_decoder
@given(fields=st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_any_fields_are_an_event_or_malformed(
    decode: Callable[[bytes], Any], fields: dict[str, object]
) -> None:
    read_or_refuse(decode, msgspec.json.encode(fields))


@given(event=events, position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_gives_an_event_or_is_malformed(
    event: msgspec.Struct, position: int, byte: int
) -> None:
    payload = bytearray(encode(event))
    payload[position % len(payload)] = byte
    read_or_refuse(DECODERS[type(event)], bytes(payload))


@each_decoder
@pytest.mark.parametrize("opening", [b"[", b'{"x":', b'{"work":['])
def test_endless_nesting_is_malformed(decode: Callable[[bytes], Any], opening: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(opening * 100_000)


def read_or_refuse(decode: Callable[[bytes], Any], payload: bytes) -> None:
    try:
        event = decode(payload)
    except MalformedEvent:
        return
    assert type(event) in DECODERS
