"""Reading a carrier's receipts: what each format means to us, and what is refused."""

import contextlib
import re
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.receipts import (
    RECEIPT_BODY_MAX_BYTES,
    RECEIPTS_PER_POST_MAX,
    CarrierReceipt,
    MalformedReceipt,
    PostedReceipts,
    ReceiptSettings,
    ReceiptState,
    parse_receipts,
    read_receipt_settings,
)

FORM = "application/x-www-form-urlencoded"
AUTH = {"kind": "hmac"}
MESSAGE_ID = "0193a1b2-0000-7000-8000-000000000001"


def settings(**section) -> ReceiptSettings:
    found = read_receipt_settings({"receipts": {"auth": AUTH, **section}})
    assert found is not None
    return found


def parse(receipt, **section) -> CarrierReceipt:
    return only(
        parse_receipts(settings(**section), msgspec.json.encode(receipt), "application/json; charset=utf-8")
    )


def only(posted: PostedReceipts) -> CarrierReceipt:
    assert posted.refused == []
    (receipt,) = posted.receipts
    return receipt


def test_a_full_receipt_is_read_in_our_words():
    parsed = parse(
        {
            "reference": "abc-1",
            "state": "DELIVRD",
            "done_at": "2026-11-21T11:00:00.5+01:00",
            "msisdn": "4915112345678",
            "error_code": "000",
            "part_no": 2,
            "message_id": MESSAGE_ID,
            "attempt_no": "3",
        }
    )
    assert parsed == CarrierReceipt(
        reference="abc-1",
        state=ReceiptState.DELIVERED,
        done_at=datetime(2026, 11, 21, 10, 0, 0, 500_000, tzinfo=UTC),
        msisdn="+4915112345678",
        error_code="000",
        part_no=2,
        message_id=UUID(MESSAGE_ID),
        attempt_no=3,
    )


def test_fields_lie_where_the_settings_say():
    body = {
        "reports": [{"sms": {"ids": [17, 42]}, "status": "ok!"}, {"sms": {"ids": [1, 43]}, "status": "lost"}]
    }
    mapping = settings(
        items="reports",
        reference="sms.ids.1",
        state="status",
        states={"OK!": "delivered", "lost": "undelivered"},
    )
    parsed = parse_receipts(mapping, msgspec.json.encode(body), "application/json")
    assert [(r.reference, r.state) for r in parsed.receipts] == [("42", "delivered"), ("43", "undelivered")]


def test_a_form_is_one_receipt():
    body = b"reference=a%2Fb&state=Undeliv&msisdn=%2B4915112345678&error_code=21b&done_at="
    parsed = only(parse_receipts(settings(), body, FORM))
    assert (parsed.reference, parsed.state, parsed.msisdn) == (
        "a/b",
        ReceiptState.UNDELIVERED,
        "+4915112345678",
    )
    assert (parsed.error_code, parsed.done_at) == ("21b", None)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("DELIVRD", "delivered"),
        ("UNDELIV", "undelivered"),
        ("DELETED", "undelivered"),
        ("EXPIRED", "expired"),
        ("REJECTD", "rejected"),
        ("ENROUTE", "enroute"),
        ("ACCEPTD", "accepted"),
        ("UNKNOWN", "unknown"),
        ("a word nobody knows", "unknown"),
        (2, "unknown"),
    ],
)
def test_each_word_of_a_state_has_its_meaning(word, state):
    assert parse({"reference": "r", "state": word}).state == state


def test_a_number_can_be_the_word_of_a_state():
    assert parse({"reference": "r", "state": 2}, states={"2": "delivered"}).state == "delivered"


@pytest.mark.parametrize(
    ("form", "text", "offset", "moment"),
    [
        ("iso8601", "2026-11-21T10:00:00Z", 0, datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("iso8601", "2026-11-21 10:00:00", 120, datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("unix_seconds", 1795255200, 0, datetime.fromtimestamp(1795255200, UTC)),
        ("unix_seconds", "1795255200.5", 0, datetime.fromtimestamp(1795255200.5, UTC)),
        ("unix_ms", 1795255200500, 0, datetime.fromtimestamp(1795255200.5, UTC)),
        ("smpp", "2611211000", 0, datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("smpp", "261121100059", 60, datetime(2026, 11, 21, 9, 0, 59, tzinfo=UTC)),
        ("smpp", "20261121100059", 0, datetime(2026, 11, 21, 10, 0, 59, tzinfo=UTC)),
    ],
)
def test_each_format_of_a_date_is_read(form, text, offset, moment):
    parsed = parse(
        {"reference": "r", "state": "delivered", "done_at": text},
        done_at_format=form,
        utc_offset_minutes=offset,
    )
    assert parsed.done_at == moment


@pytest.mark.parametrize("value", ["015112345678", "not a number", "", None, 12, "+49151123456789012", True])
def test_a_number_that_is_not_international_is_no_evidence(value):
    assert parse({"reference": "r", "state": "delivered", "msisdn": value}).msisdn is None


@pytest.mark.parametrize("value", ["+4915112345678", "4915112345678", "004915112345678", 4915112345678])
def test_an_international_number_is_read_in_any_spelling(value):
    assert parse({"reference": "r", "state": "delivered", "msisdn": value}).msisdn == "+4915112345678"


def test_an_echo_of_somebody_elses_id_is_ignored():
    parsed = parse({"reference": "r", "state": "delivered", "message_id": "order 17"})
    assert parsed.message_id is None


def test_without_references_the_echoed_id_is_the_reference():
    parsed = parse({"message_id": MESSAGE_ID.upper(), "state": "delivered"}, reference=None)
    assert parsed.reference == MESSAGE_ID


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        ({"state": "delivered"}, "reference"),
        ({"reference": "", "state": "delivered"}, "reference"),
        ({"reference": 1.5, "state": "delivered"}, "reference"),
        ({"reference": True, "state": "delivered"}, "reference"),
        ({"reference": "r\0", "state": "delivered"}, "reference"),
        ({"reference": "r" * 256, "state": "delivered"}, "reference"),
        ({"reference": 10**300, "state": "delivered"}, "reference"),
        ({"reference": "r"}, "state"),
        ({"reference": "r", "state": ["delivered"]}, "state"),
        ({"reference": "r", "state": "delivered", "part_no": 256}, "part_no"),
        ({"reference": "r", "state": "delivered", "part_no": "one"}, "part_no"),
        ({"reference": "r", "state": "delivered", "attempt_no": -1}, "attempt_no"),
        ("r", "object"),
        (None, "object"),
    ],
)
def test_a_receipt_without_what_settling_needs_is_refused_by_name_and_alone(receipt, words):
    good = {"reference": "good", "state": "delivered"}
    body = msgspec.json.encode({"list": [good, receipt, {**good, "state": "expired"}]})
    posted = parse_receipts(settings(items="list"), body, "application/json")
    assert [(one.reference, one.state) for one in posted.receipts] == [
        ("good", "delivered"),
        ("good", "expired"),
    ]
    (why,) = posted.refused
    assert re.match(rf"receipt 1: .*{words}", why)


@pytest.mark.parametrize(
    ("form", "date"),
    [
        ("iso8601", "0001-01-01T00:00:00Z"),
        ("iso8601", "0001-01-01T00:00:00+10:00"),
        ("iso8601", "1970-01-01T00:00:00Z"),
        ("iso8601", "0000-00-00 00:00:00"),
        ("iso8601", "yesterday"),
        ("iso8601", True),
        ("iso8601", {"date": "2026-11-21"}),
        ("unix_seconds", 0),
        ("unix_seconds", "0"),
        ("unix_ms", 1e300),
        ("smpp", "0000000000"),
        ("smpp", "000000000000"),
    ],
)
def test_a_date_that_cannot_be_read_costs_no_receipt_and_is_counted(form, date):
    receipts = [{"reference": "r", "state": "delivered", "done_at": said} for said in (date, None, "")]
    mapping = settings(items="", done_at_format=form)
    posted = parse_receipts(mapping, msgspec.json.encode(receipts), "application/json")
    assert [one.done_at for one in posted.receipts] == [None] * 3
    assert (posted.refused, posted.undated) == ([], 1)


@pytest.mark.parametrize("value", [0, "0", "", None])
def test_part_and_attempt_0_say_none(value):
    receipt = parse({"reference": "r", "state": "delivered", "part_no": value, "attempt_no": value})
    assert (receipt.part_no, receipt.attempt_no) == (None, None)


def test_without_references_a_receipt_of_another_system_is_refused_alone():
    receipts = [
        {"message_id": "order 17", "state": "delivered"},
        {"message_id": MESSAGE_ID, "state": "expired"},
    ]
    mapping = settings(items="", reference=None)
    posted = parse_receipts(mapping, msgspec.json.encode(receipts), "application/json")
    assert [one.reference for one in posted.receipts] == [MESSAGE_ID]
    assert len(posted.refused) == 1


@pytest.mark.parametrize("text", [b"Gr\xfc\xdfe", b"Gr\xc3\xbc\xc3", b"abc\\ud83d", b"\xf0\x9f"])
def test_a_text_that_nobody_reads_may_be_in_any_encoding_or_cut(text):
    body = b'{"reference": "r-1", "text": "' + text + b'", "state": "delivered", "msisdn": "' + text + b'"}'
    receipt = only(parse_receipts(settings(), body, "application/json"))
    assert (receipt.reference, receipt.state, receipt.msisdn) == ("r-1", "delivered", None)


@pytest.mark.parametrize("text", [b"Gr%FC%DFe", b"Gr\xfc\xdfe", b"Gr%C3%BC%C3"])
def test_a_field_of_a_form_that_nobody_reads_may_be_in_any_encoding_or_cut(text):
    receipt = only(parse_receipts(settings(), b"reference=r-1&text=" + text + b"&state=delivered", FORM))
    assert (receipt.reference, receipt.state) == ("r-1", "delivered")


@pytest.mark.parametrize("kind", ["application/json", FORM])
@pytest.mark.parametrize("field", ["reference", "state"])
def test_a_reference_or_state_that_was_not_decoded_whole_is_never_guessed(field, kind):
    pairs = {"reference": b"r-1", "state": b"delivered", field: b"\xfc"}
    if kind == FORM:
        body = b"&".join(name.encode() + b"=" + said for name, said in pairs.items())
    else:
        body = b"{%s}" % b",".join(b'"%s": "%s"' % (name.encode(), said) for name, said in pairs.items())
    posted = parse_receipts(settings(), body, kind)
    assert posted.receipts == []
    assert re.match(f"receipt 0: {field}", posted.refused[0])


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 60_000, b"{}", b'{"list": {}}', b"x" * 70_000],
    ids=["empty", "cut off", "not utf-8", "deep", "no list", "not a list", "too large"],
)
def test_what_is_no_list_of_receipts_is_refused(body):
    with pytest.raises(MalformedReceipt):
        parse_receipts(settings(items="list"), body, "application/json")


def test_more_receipts_than_one_post_may_carry_are_refused():
    body = msgspec.json.encode([1] * (RECEIPTS_PER_POST_MAX + 1))
    assert len(body) < RECEIPT_BODY_MAX_BYTES
    with pytest.raises(MalformedReceipt, match="at most"):
        parse_receipts(settings(items=""), body, "application/json")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"auth": AUTH, "reference": None, "message_id": None}, "reference"),
        ({"auth": AUTH, "state": "a..b"}, "dotted path"),
        ({"auth": AUTH, "states": {"ok": "brilliant"}}, "brilliant"),
        ({"auth": AUTH, "stats": {}}, "stats"),
        ({"auth": AUTH, "utc_offset_minutes": 1440}, "utc_offset"),
        ({}, "auth"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(section, words):
    with pytest.raises(ValueError, match=words):
        read_receipt_settings({"receipts": section})


def test_a_carrier_without_receipts_has_no_settings_for_them():
    assert read_receipt_settings({"url": "https://carrier.example"}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["reference", "state", "x"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=200) | JSON.map(msgspec.json.encode), st.sampled_from(["iso8601", "smpp", "unix_ms"])
)
def test_any_body_is_either_read_or_refused(body, form):
    for mapping in (settings(done_at_format=form, done_at="state"), settings(items="")):
        with contextlib.suppress(MalformedReceipt):
            parse_receipts(mapping, body, "application/json")
