"""Invariant: the official package verifies every body under every active secret, and under no other."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.domain.signatures import new_secret, parse_secret, signature_list, verify

KEY = st.binary(min_size=24, max_size=64)
# The package reads the body as text, so a body is UTF-8, as JSON always is.
BODY = st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)


@given(BODY, st.lists(KEY, min_size=1, max_size=3), KEY, st.uuids())
def test_a_secret_verifies_if_and_only_if_it_is_active(
    body: bytes, active: list[bytes], other: bytes, callback_id: object
) -> None:
    webhook_id, timestamp = f"msg_{callback_id}", int(time.time())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_list(active, webhook_id, timestamp, body),
    }

    for key in active:
        assert parse_secret(new_secret(key)) == key
        verify(headers, body, [key], timestamp)
        Webhook(new_secret(key)).verify(body, headers, json_parse=False)
    # HMAC pads a key with zeros, so two keys that differ only in trailing zeros are one key.
    if other.rstrip(b"\0") not in {key.rstrip(b"\0") for key in active}:
        with pytest.raises(WebhookVerificationError):
            Webhook(new_secret(other)).verify(body, headers, json_parse=False)
