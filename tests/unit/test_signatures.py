"""Our signatures against the standard's own vector, and against its official Python package."""

import base64
import json
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.domain.signatures import (
    ACTIVE_SECRETS_MAX,
    TOLERANCE_SECONDS,
    SecretFormatError,
    SignatureError,
    new_secret,
    parse_secret,
    sign,
    signature_list,
    verify,
)

OLD = new_secret(b"o" * 32)
NEW = new_secret(b"n" * 64)
OTHER = new_secret(b"x" * 24)
BODY = '{"type":"message.delivered","data":{"client_ref":"Ünïcode"}}'.encode()


def headers(*secrets: str, at: int | None = None, body: bytes = BODY) -> dict[str, str]:
    timestamp = int(time.time()) if at is None else at
    keys = [parse_secret(secret) for secret in secrets]
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_list(keys, "msg_1", timestamp, body),
    }


def refusal(sent: dict[str, str], *, body: bytes = BODY, now: float | None = None) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(sent, body, [parse_secret(OLD)], time.time() if now is None else now)
    return str(caught.value)


def test_the_vector_of_the_standard_comes_out() -> None:
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_official_package_verifies_what_we_sign() -> None:
    assert Webhook(OLD).verify(BODY, headers(OLD)) == json.loads(BODY)


def test_during_a_rotation_a_receiver_that_knows_either_secret_verifies() -> None:
    sent = headers(NEW, OLD)

    assert Webhook(OLD).verify(BODY, sent) == json.loads(BODY)
    assert Webhook(NEW).verify(BODY, sent) == json.loads(BODY)
    verify(sent, BODY, [parse_secret(OLD)], time.time())
    verify(sent, BODY, [parse_secret(NEW)], time.time())


def test_after_a_rotation_the_old_secret_alone_no_longer_verifies() -> None:
    sent = headers(NEW)

    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY, sent)
    assert "no signature fits" in refusal(sent)
    assert Webhook(NEW).verify(BODY, sent) == json.loads(BODY)


def test_we_verify_what_the_official_package_signs() -> None:
    timestamp = int(time.time())
    # The package's own sign() takes the naive UTC time that its verify() makes.
    signature = sign(parse_secret(OLD), "msg_1", timestamp, BODY)
    theirs = Webhook(OLD)
    sent = {"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": str(timestamp), "webhook-signature": signature}

    assert theirs.verify(BODY, sent) == json.loads(BODY)
    verify(sent, BODY, [parse_secret(OLD)], time.time())


def test_one_changed_byte_of_the_body_is_refused() -> None:
    assert "no signature fits" in refusal(headers(OLD), body=BODY.replace(b"delivered", b"Delivered"))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    sent = headers(OLD)
    del sent[name]

    assert refusal(sent) == f"the header {name} is missing"


@pytest.mark.parametrize("offset_seconds", [-TOLERANCE_SECONDS, 0, TOLERANCE_SECONDS])
def test_a_timestamp_within_the_tolerance_is_taken(offset_seconds: int) -> None:
    verify(headers(OLD, at=1_000_000), BODY, [parse_secret(OLD)], 1_000_000 + offset_seconds)


def test_an_old_callback_can_not_be_played_again() -> None:
    late = refusal(headers(OLD, at=1_000_000), now=1_000_000 + TOLERANCE_SECONDS + 1)
    early = refusal(headers(OLD, at=1_000_000), now=1_000_000 - TOLERANCE_SECONDS - 1)

    assert late == "webhook-timestamp is too old by 301 s; 300 s are allowed"
    assert early == "webhook-timestamp is in the future by 301 s; 300 s are allowed"


@pytest.mark.parametrize("timestamp", ["", "soon", "+1", "1_0", "1.5", "-1", "٣", "1" * 11])
def test_a_timestamp_that_is_no_whole_number_is_refused(timestamp: str) -> None:
    assert "webhook-timestamp" in refusal({**headers(OLD), "webhook-timestamp": timestamp})


@pytest.mark.parametrize("signature", ["v1a,AAAA", "v2,AAAA", "AAAA", ",", "v1"])
def test_a_list_without_our_version_is_refused(signature: str) -> None:
    assert refusal({**headers(OLD), "webhook-signature": signature}).endswith("has no item of version v1")


@pytest.mark.parametrize("signature", ["v1,", "v1,,,", "v1,é", "v1,\udcff", "v1,AAAA v1,BBBB"])
def test_a_broken_item_is_no_match_and_no_crash(signature: str) -> None:
    assert "no signature fits" in refusal({**headers(OLD), "webhook-signature": signature})


def test_items_of_other_versions_are_passed_over() -> None:
    sent = headers(OLD)
    sent["webhook-signature"] = f"v1a,AAAA v9,? {sent['webhook-signature']}"

    verify(sent, BODY, [parse_secret(OLD)], time.time())


def test_an_id_that_is_not_ascii_is_refused_not_a_crash() -> None:
    assert "no id has" in refusal({**headers(OLD), "webhook-id": "msg_é"})


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_secret_comes_back_from_its_text(length: int) -> None:
    key = bytes(range(length))

    assert parse_secret(new_secret(key)) == key
    assert parse_secret(new_secret(key).rstrip("=")) == key


@pytest.mark.parametrize("length", [0, 23, 65])
def test_a_secret_too_short_or_too_long_is_refused(length: int) -> None:
    with pytest.raises(SecretFormatError, match="24 to 64 bytes"):
        new_secret(b"k" * length)
    with pytest.raises(SecretFormatError, match="24 to 64 bytes"):
        parse_secret("whsec_" + base64.b64encode(b"k" * length).decode())


@pytest.mark.parametrize("text", ["", "whsec_!!!!", "whsec_AAAAA", "whpk_AAAA", "whsec_é"])
def test_a_text_that_is_no_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SecretFormatError) as caught:
        parse_secret(text)

    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("count", [0, ACTIVE_SECRETS_MAX + 1])
def test_a_callback_is_never_sent_unsigned_nor_with_a_long_list(count: int) -> None:
    with pytest.raises(ValueError, match="signed with"):
        signature_list([parse_secret(OTHER)] * count, "msg_1", 1, BODY)
