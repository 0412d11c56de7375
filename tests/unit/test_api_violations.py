"""What is said about a document that is not what was asked for."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admin_schemas import NewClient, NewKeyRequest
from api.carrier_schemas import CarrierRequest
from api.field_paths import FIELD_NAME_MAX
from api.ledger_schemas import CreditRequest
from api.problems import FIELD_ERRORS_MAX, Refusal
from api.read_schemas import MessageQuery
from api.routing import BATCH_MAX_BYTES
from api.schemas import BATCH_MESSAGES_MAX, BatchRequest, MessageRequest
from api.violations import (
    DOCUMENT_MAX_BYTES,
    DOCUMENT_VALUES_MAX,
    refuse_body,
    refuse_values,
)
from shared.domain.http_settings import HttpSettings
from tests.support.calls import calls_of

PRICE_RULE = "must be an amount like 0.10, with at most 12 digits, a point and at most six decimals"
AMOUNT_RULE = (
    "must be an amount like 100.00 or -5.00, with at most 12 digits, a point and at most six decimals"
)
NAMES = [field.encode_name for field in msgspec.structs.fields(MessageRequest)]


def faults(document: Any, kind: Any = MessageRequest) -> dict[str, str]:
    raw = msgspec.json.encode(document)
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(raw, type=kind)
    refusal = refuse_body(caught.value, raw, kind)
    return {error.field: error.detail for error in refusal.errors}


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("to", 5, "must be a string, not an integer"),
        ("text", None, "must be a string, not null"),
        ("text", "", "must not be empty"),
        ("from", "x" * 17, "must have at most 16 characters"),
        ("callback_url", "http:/", "must have at least 8 characters"),
        ("lane", "fast", "must be one of express, normal, bulk"),
        ("lane", 5, "must be one of express, normal, bulk"),
        ("delivery", "exactly_once", "must be one of at_most_once, at_least_once"),
        ("send_at", 5, "must be an RFC 3339 time with a time zone, as in 2026-11-21T10:00:00Z"),
        ("valid_for_seconds", 59, "must be >= 60"),
        ("valid_for_seconds", 1.5, "must be an integer or null, not a decimal number"),
        (
            "send_at",
            "2026-11-21T10:00:00",
            "must be an RFC 3339 time with a time zone, as in 2026-11-21T10:00:00Z",
        ),
        ("send_at", "soon", "must be an RFC 3339 time with a time zone, as in 2026-11-21T10:00:00Z"),
        ("max_price", "0,10", PRICE_RULE),
        (
            "max_price",
            0.1,
            f"must be a string or null, not a decimal number; it {PRICE_RULE}",
        ),
        ("callback_url", "gopher://x", "must begin with https:// or http://"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(field, value, right):
    assert faults({"to": "+49", "text": "x", field: value}) == {field: right}


def test_a_text_of_the_wrong_form_is_told_the_form_in_words():
    client = faults({"name": "Acme Ltd", "currency": "EURO", "allowed_countries": ["DE", "de"]}, NewClient)
    assert client == {
        "name": "must be of lower-case letters, digits, - and _, at most 63, "
        "and begin with a letter or a digit",
        "currency": "must be three capital letters, as in EUR",
        "allowed_countries[1]": "must be two capital letters, as in DE",
    }
    credit = faults({"amount": "5 EUR", "reference": "x" * 256, "reason": "\0"}, CreditRequest)
    assert credit == {
        "amount": AMOUNT_RULE,
        "reference": "must be 1 to 255 letters, digits and signs of ASCII, without a space",
        "reason": "must not hold NUL",
    }


def test_an_amount_with_more_digits_than_a_balance_has_is_told_how_many_it_may_have():
    assert faults({"amount": "1000000000000", "reference": "x"}, CreditRequest) == {"amount": AMOUNT_RULE}


def test_all_faults_of_a_document_are_told_at_once():
    found = faults({"lane": 1, "colour": 1, "size": 2})
    assert list(found) == ["to", "text", "lane", "colour", "size"]


def test_a_document_that_is_no_object_is_told_so():
    assert faults([]) == {"body": "must be an object, not an array"}
    assert faults("x") == {"body": "must be an object, not a string"}


def test_faults_inside_lists_are_told_by_their_place():
    items = [{"to": "+49", "text": "x"}, {"to": "+49"}, 5]
    found = faults({"messages": items}, BatchRequest)
    assert found == {"messages[1].text": "is required", "messages[2]": "must be an object, not an integer"}
    assert faults({"messages": []}, BatchRequest) == {"messages": "must have >= 1 items"}
    assert "1000" in faults({"to": ["+49"] * 1_001}, BatchRequest)["to"]


def test_what_is_one_of_a_few_is_told_wherever_it_stands():
    key = {"scopes": ["messages:send", "send"], "client": "acme"}
    scopes = "must be one of messages:send, messages:read, balance:read, callbacks:manage, admin"
    assert faults(key, NewKeyRequest) == {"scopes[1]": scopes}
    assert faults({"settings": {}, "kind": "smpp"}, CarrierRequest) == {"kind": "must be http"}
    for auth in ({"kind": "hmacc"}, {}):
        settings = {"url": "https://a.example", "body": {}, "receipts": {"auth": auth}}
        found = faults(settings, HttpSettings)
        assert found == {"receipts.auth.kind": "must be one of hmac, bearer, address"}


def test_a_flood_of_faults_is_cut():
    assert len(faults({str(n): n for n in range(1_000)})) == FIELD_ERRORS_MAX
    assert len(faults({"messages": [{}] * 1_000}, BatchRequest)) == FIELD_ERRORS_MAX


def test_a_hostile_name_is_cut():
    assert max(len(name) for name in faults({"x" * 10_000: 1})) == FIELD_NAME_MAX + 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), json_values, max_size=8))
def test_whatever_is_wrong_there_is_a_fault_with_a_name(document):
    raw = msgspec.json.encode(document)
    try:
        msgspec.json.decode(raw, type=MessageRequest)
    except msgspec.ValidationError as error:
        refusal = refuse_body(error, raw, MessageRequest)
        assert isinstance(refusal, Refusal)
        assert 1 <= len(refusal.errors) <= FIELD_ERRORS_MAX
        assert all(fault.field and fault.detail for fault in refusal.errors)


def refused(raw: bytes, kind: Any = MessageRequest) -> Refusal:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError, RecursionError)) as caught:
        msgspec.json.decode(raw, type=kind)
    return refuse_body(caught.value, raw, kind)


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00", r"\ud83dx", r"x\ud83d\ud83d\ude00", r"\ud83d\n"])
def test_half_of_an_emoji_is_told_by_its_field(half):
    what = "must hold whole characters: {} is half of a surrogate pair"
    told = what.format(r"\ude00" if "ud83d" not in half else r"\ud83d")
    body = rf'{{"to":"+49","text":"{half}"}}'.encode()
    refusal = refused(body)
    assert (refusal.status, refusal.code) == (422, "validation_failed")
    assert {error.field: error.detail for error in refusal.errors} == {"text": told}
    batch = refused(b'{"messages":[{"to":"+49","text":"x"},' + body + b"]}", BatchRequest)
    assert [error.field for error in batch.errors] == ["messages[1].text"]
    name = refused(rf'{{"to":"+49","text":"x","{half}":1}}'.encode())
    assert [error.field for error in name.errors] == ["body"]
    assert name.body("r1")


@pytest.mark.parametrize(
    "raw", [b'{"to":"+49"', rb'{"text":"\ud83d"', b'{"text":"\xff"}', b"", b"[" * 100_000]
)
def test_what_is_no_json_is_still_told_so(raw):
    refusal = refused(raw)
    assert (refusal.status, refusal.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is empty"),
        (b'{"to":"+49"', "it ends too early (byte 11)"),
        (b'{"to":"+4915112345678","text":"\xff"}', "0xff is not UTF-8 there (byte 31)"),
        (b'{"to" 1}', "expected ':' (byte 6)"),
        (b'{"to":1e999}', "Number out of range"),
        (b"[" * 1_000_000, "it is nested too deeply"),
    ],
)
def test_the_byte_at_which_reading_stopped_is_told(raw, reason):
    assert refused(raw).problem().detail == f"The body could not be read as JSON: {reason}"


def test_a_parameter_of_a_url_is_not_told_that_it_is_a_text():
    values = {"limit": "many"}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(values, MessageQuery)
    [fault] = refuse_values(caught.value, values, MessageQuery, where="query").errors
    assert (fault.field, fault.detail) == ("query.limit", "must be an integer")


def test_a_flood_of_halves_is_cut():
    refusal = refused(b'{"messages":[' + b",".join([rb'{"text":"\ud83d"}'] * 1_000) + b"]}", BatchRequest)
    assert len(refusal.errors) == FIELD_ERRORS_MAX


@pytest.mark.parametrize("item", [b'{"to":"+49","text":"x"}', b'{"to":"+49"}', b"5"])
def test_of_a_list_with_too_many_items_none_is_looked_at(item):
    """A body has room for a hundred thousand, and nobody else is answered meanwhile."""

    def refuse(count: int) -> Refusal:
        raw = b'{"messages":[' + b",".join([item] * count) + b"]}"
        # As the typed decode says it, which stops at the first bad item.
        return refuse_body(msgspec.ValidationError("Expected"), raw, BatchRequest)

    refusal = refuse(8_000)
    assert {one.field: one.detail for one in refusal.errors} == {"messages": "must have <= 1000 items"}
    assert calls_of(lambda: refuse(8_000)) == calls_of(lambda: refuse(1_001))


@pytest.mark.parametrize("more", [[], NAMES])
def test_of_a_full_batch_only_what_is_wrong_is_walked(more):
    """Field by field a thousand small messages took 50 ms, and nobody else was answered meanwhile."""
    item = dict.fromkeys(more) | {"to": "+49", "text": "x"}

    def refuse(count: int) -> Refusal:
        batch = {"messages": [*[item] * count, {**item, "colour": 1}]}
        return refused(msgspec.json.encode(batch), BatchRequest)

    assert [error.field for error in refuse(999).errors] == ["messages[999].colour"]
    # Beginnings and ends: of the question about an item, and of msgspec's answer.
    assert calls_of(lambda: refuse(999)) - calls_of(lambda: refuse(499)) <= 500 * 4


@pytest.mark.parametrize(
    ("place", "what"),
    [(b'"x":[', "x"), (b'"messages":[', "messages[0]"), (b'"to":[', "to[0]"), (b'"lane":[', "lane")],
)
def test_of_a_body_of_many_values_none_is_made_and_its_first_fault_is_told(place, what):
    for item, count in ((b"[]", BATCH_MAX_BYTES // 3 - 10), (b"5", DOCUMENT_VALUES_MAX)):
        raw = b"{" + place + b",".join([item] * count) + b"]}"
        tracemalloc.start()
        refusal = refused(raw, BatchRequest)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (refusal.status, [error.field for error in refusal.errors]) == (422, [what])
        assert peak_bytes < 100_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": 1}, {"text": None}, {"text": ""}, {"to": 5}, {"from": "x" * 17}, {"lane": "fast"},
        {"send_at": "soon"}, {"send_at": 5}, {"valid_for_seconds": 1.5}, {"max_price": "0,10"},
        {"max_price": 0.1}, {"callback_url": "gopher://x"}, {"delivery": "exactly_once"}, {"to": ...},
    ],
)  # fmt: skip
def test_the_first_fault_of_a_large_body_is_told_in_the_words_of_a_small_one(wrong):
    good = {"to": "+49", "text": "x"}
    bad = {name: value for name, value in (good | wrong).items() if value is not ...}
    large = {"to": "+49", "text": "x" * DOCUMENT_MAX_BYTES}
    assert faults({"messages": [good, bad]}, BatchRequest) == faults({"messages": [large, bad]}, BatchRequest)


@pytest.mark.parametrize("item", [b'"x"', b"{}", b"[]", b'{"":0,"x":""}'])
def test_in_so_many_values_and_no_more_halves_are_looked_for(item):
    def refuse(values: int) -> Refusal:
        count = values // (item.count(b"{") + item.count(b"[") + item.count(b",") + 1)
        raw = b'{"to":[' + (item + b",") * count + rb'"\ud83d"]}'
        assert len(raw) <= DOCUMENT_MAX_BYTES
        return refused(raw, BatchRequest)

    assert refuse(DOCUMENT_VALUES_MAX - 5).code == "validation_failed"
    assert refuse(DOCUMENT_VALUES_MAX + 5).code == "invalid_json"
    # For each value and name its type, whether it is ASCII, and the walk of what it holds.
    calls = calls_of(lambda: refuse(DOCUMENT_VALUES_MAX - 5))
    assert calls <= DOCUMENT_VALUES_MAX * 12


@pytest.mark.parametrize("last", [b"NaN", rb'"\ud83d"', b'"\n"', b"[", rb'"\ud83dxxxxxxxx"'])
def test_of_a_large_body_that_is_no_json_nothing_is_made(last):
    """Two megabytes of small values took 0.2 s to make, twice, and nobody else was answered meanwhile."""
    raw = b'{"messages":[' + b"[]," * (BATCH_MAX_BYTES // 3 - 10) + last + b"]}"
    fault = msgspec.ValidationError("Expected")  # as the typed decode says it, at the first item
    tracemalloc.start()
    refusal = refuse_body(fault, raw, BatchRequest)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (refusal.status, refusal.code) == (400, "invalid_json")
    assert peak_bytes < 100_000


def test_a_half_is_found_behind_a_full_batch_of_messages_with_every_field():
    fields = ",".join(f'"{name}":"x"' for name in NAMES)
    messages = [f"{{{fields}}}"] * BATCH_MESSAGES_MAX
    messages[-1] = rf'{{{fields},"reference":"\ud83d"}}'
    refusal = refused(f'{{"messages":[{",".join(messages)}]}}'.encode(), BatchRequest)
    assert [error.field for error in refusal.errors] == ["messages[999].reference"]


def test_a_half_far_inside_of_what_is_nested_has_no_endless_name():
    raw = b'{"a":' * 500 + rb'"\ud83d"' + b"}" * 500
    assert refused(raw).code == "invalid_json"
    assert refused(b'{"a":' * 8 + rb'"\ud83d"' + b"}" * 8).errors[0].field == ".".join("a" * 8)
