"""Settings of an HTTP carrier: what they say, and what is refused by name before anything is sent."""

from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.body_template import Json, TemplateFault, compile_template
from shared.domain.carrier_headers import fill_headers
from shared.domain.carrier_secrets import CarrierSecretMissing, named_secret
from shared.domain.carrier_settings import check_carrier_secret, read_carrier_settings
from shared.domain.http_settings import HttpSettings, Verdict, status_range
from shared.domain.receipts import read_receipt_settings
from tests.support.submissions import submission
from worker.carriers.http import HttpCarrier
from worker.carriers.registry import KINDS, CarrierSettingsFault, make_carrier
from worker.carriers.simulated import simulator_carrier_settings
from worker.carriers.verdicts import RETRY_AFTER_MAX_SECONDS, default_verdict, retry_after_seconds

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
RIGHT = {"url": "https://carrier.example/sms", "body": {"to": "$msisdn"}}


def test_a_template_puts_each_field_where_it_is_wanted_with_its_type():
    fill = compile_template(
        {
            "to": ["$msisdn_digits", "$msisdn"],
            "meta": {"ref": "tw-$message_id/$attempt_no", "cost": "$$5 $sender", "parts": "$segments"},
            "part": "$part_no",
            "enc": "$encoding",
            "ttl": "$valid_for_seconds",
            "urgent": True,
            "tag": None,
            "price": 1.5,
            "kind": "$$text",
        }
    )
    one = submission(1)
    assert fill(one) == {
        "to": ["4915112345678", "+4915112345678"],
        "meta": {"ref": f"tw-{one.message_id}/1", "cost": "$5 ACME", "parts": 1},
        "part": 1,
        "enc": "GSM7",
        "ttl": 600,
        "urgent": True,
        "tag": None,
        "price": 1.5,
        "kind": "$text",
    }


@pytest.mark.parametrize(("seconds", "written"), [(60.9, 60), (1.0, 1), (0.2, 1)])
def test_a_validity_is_whole_seconds_and_never_none(seconds, written):
    """Rounded down, so that nothing arrives late; but 0 would be a carrier's word for its own default."""
    assert compile_template({"ttl": "$valid_for_seconds"})(submission(valid_for_seconds=seconds)) == {
        "ttl": written
    }


def test_an_absent_field_is_left_out_and_spelled_as_nothing():
    fill = compile_template({"ttl": "$valid_for_seconds", "note": "for $valid_for_seconds s"})
    assert fill(submission(valid_for_seconds=None)) == {"note": "for  s"}


@given(st.text(), st.text())
def test_no_text_or_sender_changes_what_is_around_it(text, sender):
    fill = compile_template({"all": "<$sender|$text>", "text": "$text"})
    assert fill(submission(text=text, sender=sender)) == {"all": f"<{sender}|{text}>", "text": text}


@pytest.mark.parametrize("template", [{"to": "$number"}, {"to": {"deep": ["a $nobody"]}}])
def test_an_unknown_placeholder_is_refused_with_those_that_there_are(template):
    with pytest.raises(TemplateFault, match=r"\$msisdn"):
        compile_template(template)


def test_a_template_has_a_depth():
    template: dict[str, object] = {}
    for _ in range(10):
        template = {"in": template}
    with pytest.raises(TemplateFault, match="deeper"):
        compile_template(template)  # type: ignore[arg-type]  # a nested dict is what JSON is


@pytest.mark.parametrize(
    ("written", "statuses"),
    [("429", (429, 429)), ("5xx", (500, 599)), ("500-503", (500, 503))],
)
def test_a_status_is_written_in_three_ways(written, statuses):
    assert status_range(written) == statuses


@pytest.mark.parametrize("written", ["", "x", "5x", "50-60", "503-500", "axx", "200-2xx", "²00"])
def test_other_ways_to_write_a_status_are_refused(written):
    with pytest.raises(ValueError, match="statuses"):
        status_range(written)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"url": "ftp://carrier.example"}, "url"),
        ({"url": "https://user:word@carrier.example"}, "credentials"),
        ({"url": "nowhere"}, "url"),
        ({"body": {"to": "$nobody"}}, "nobody"),
        ({"boddy": {}}, "boddy"),
        ({"method": "PUT"}, "method"),
        ({"statuses": {"6": "submitted"}}, "statuses"),
        ({"statuses": {"500": "fine"}}, "fine"),
        ({"reference": "a..b"}, "a..b"),
        ({"connect_timeout_seconds": 30.0}, "connect_timeout_seconds"),
        ({"total_timeout_seconds": 301.0}, "total_timeout_seconds"),
        ({"connections_max": 0}, "connections_max"),
        ({"bulk": {"url": "x"}}, "bulk.url"),
        ({"bulk": {"url": "https://carrier.example", "batch_max": 0}}, "batch_max"),
        ({"receipts": {}}, "auth"),
        ({"headers": {"Authorization": "Bearer $secret"}}, "secret"),
        ({"body": {"password": "$secret"}}, "secret"),
        ({"body": {"password": ["a $secret.user"]}}, "user"),
        ({"body": {"password": "$secrets"}}, "secrets"),
        ({"headers": {"A B": "x"}}, "A B"),
        ({"headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"headers": {"X": "$other"}}, "dollar"),
        ({"headers": {"X": "a\r\nY: b"}}, "X"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_carrier(changed, words):
    with pytest.raises(CarrierSettingsFault, match=rf"carrier acme: .*{words}"):
        make_carrier("http", "acme", {**RIGHT, **changed}, None)


def test_an_unknown_kind_is_refused_with_those_that_there_are():
    with pytest.raises(CarrierSettingsFault, match="http"):
        make_carrier("pigeon", "acme", RIGHT, None)
    assert set(KINDS) == {"http"}


def test_a_header_takes_the_secret_that_it_names():
    opened = b'{"submit":"a","user":"b"}'
    assert fill_headers({"A": "$secret", "B": "x$secret.user$$"}, opened) == {"A": "a", "B": "xb$"}


def test_a_body_takes_the_secret_that_it_names_as_it_is():
    opened = msgspec.json.encode({"submit": 'a"$text\\', "user": "b"})
    secret_of = partial(named_secret, opened)
    login: list[Json] = ["$secret.user:$secret$$", "$secret.user"]
    template: dict[str, Json] = {"password": "$secret", "login": login, "to": "$msisdn"}
    filled = compile_template(template, secret_of)(submission(1))
    assert filled == {
        "password": 'a"$text\\',
        "login": ['b:a"$text\\$', "b"],
        "to": "+4915112345678",
    }
    assert msgspec.json.decode(msgspec.json.encode(filled)) == filled


def test_a_secret_is_no_number_and_no_part_of_a_longer_name():
    assert compile_template({"pin": "$secret", "x": "$secret."}, lambda _: "0042")(submission(1)) == {
        "pin": "0042",
        "x": "0042.",
    }
    with pytest.raises(TemplateFault, match=r"\$secret_key is not one of"):
        compile_template({"pin": "$secret_key"}, lambda _: "0042")


def test_settings_are_read_without_the_secret_and_checked_with_it():
    settings = read_carrier_settings("http", {**RIGHT, "body": {"password": "$secret.user"}})
    with pytest.raises(CarrierSecretMissing, match="user"):
        check_carrier_secret(settings, b'{"submit":"a"}')
    with pytest.raises(CarrierSecretMissing, match="no secret"):
        check_carrier_secret(settings, None)
    check_carrier_secret(settings, b'{"user":"b"}')


def test_a_secret_that_no_header_can_carry_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="value of A") as refused:
        fill_headers({"A": "$secret"}, b"line\nbreak")
    assert "break" not in str(refused.value)


def test_the_simulators_settings_are_whole():
    settings = simulator_carrier_settings("http://127.0.0.1:8190/")
    assert isinstance(make_carrier("http", "simulator", settings, b"secret"), HttpCarrier)
    assert msgspec.json.decode(msgspec.json.encode(settings)) == settings
    assert msgspec.convert(settings, HttpSettings).url == "http://127.0.0.1:8190/submit"
    assert read_receipt_settings(settings) is not None


@given(st.integers(100, 999), st.booleans())
def test_only_a_2xx_is_submitted_and_no_gateways_error_is_certain(status, asks_to_wait):
    verdict = default_verdict(status, asks_to_wait=asks_to_wait)
    assert (verdict is Verdict.SUBMITTED) == (200 <= status <= 299)
    if status in (500, 502, 504) or not 200 <= status <= 511:
        assert verdict is Verdict.UNCERTAIN
    if verdict is Verdict.PERMANENT:
        assert 400 <= status <= 499


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans())
def test_whatever_retry_after_says_the_wait_is_bounded(written):
    wait_seconds = retry_after_seconds(written, NOW)
    assert wait_seconds is None or 0 <= wait_seconds <= RETRY_AFTER_MAX_SECONDS


@pytest.mark.parametrize(
    ("written", "wait_seconds"),
    [
        ("30", 30.0),
        (2.5, 2.5),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30.0),
        ("Saturday, 21-Nov-26 10:00:30 GMT", 30.0),
        ("Sat Nov 21 10:00:30 2026", 30.0),
        ("nan", None),
        ("tomorrow", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Sat, 21 Nov 2026 10:00:30 +99999999999999", None),
        ("Sat, 21 Nov 2026 10:00:30 +9999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", RETRY_AFTER_MAX_SECONDS),
        (None, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(written, wait_seconds):
    assert retry_after_seconds(written, NOW) == wait_seconds
