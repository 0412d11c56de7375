"""Who may tell us that a message was delivered."""

import msgspec
import pytest

from shared.domain.carrier_secrets import CarrierSecretMissing, named_secret
from shared.domain.receipt_auth import (
    SIGNATURE_HEADER,
    ReceiptAuth,
    ReceiptNotAuthentic,
    sign_receipts,
    verify_receipt_auth,
    verify_receipt_head,
)

SECRET = b"a shared secret"
BODY = b'{"reference":"r","state":"delivered"}'
NOW = 1_795_255_200
PEER = "192.0.2.7"


def auth(**section) -> ReceiptAuth:
    found: ReceiptAuth = msgspec.convert(section, ReceiptAuth)
    return found


def verify(
    settings: ReceiptAuth,
    headers,
    *,
    secret: bytes | None = SECRET,
    remote: str | None = PEER,
    now=NOW,
    body=BODY,
):
    verify_receipt_auth(settings, secret, headers, remote, body, now)


def signed(at: int = NOW, secret: bytes = SECRET, body: bytes = BODY) -> dict[str, str]:
    return {SIGNATURE_HEADER: sign_receipts(secret.decode(), body, at)}


def test_the_signature_is_the_documented_one():
    mac = "6ab13b5991724d5a0c7f02d7989ba3425b580e39d5b9a0a6258a7f5d0419173a"  # HMAC-SHA256("whsec", "1.{}")
    assert sign_receipts("whsec", b"{}", 1) == f"t=1,v1={mac}"


@pytest.mark.parametrize("skew_seconds", [0, 300, -300])
def test_a_signature_inside_the_tolerance_is_taken(skew_seconds):
    verify(auth(kind="hmac"), signed(), now=NOW + skew_seconds)


def test_one_good_signature_among_several_is_enough():
    header = sign_receipts("an older secret", BODY, NOW) + "," + signed()[SIGNATURE_HEADER].split(",")[1]
    verify(auth(kind="hmac"), {SIGNATURE_HEADER.lower(): header})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE_HEADER: ""},
        {SIGNATURE_HEADER: "t=1"},
        {SIGNATURE_HEADER: "v1=aa"},
        {SIGNATURE_HEADER: f"t={NOW},v1="},
        {SIGNATURE_HEADER: f"t={NOW},v1=zz\u00e9"},
        {SIGNATURE_HEADER: f"t={NOW},v1=zz\udcff"},  # a byte that is no UTF-8, as aiohttp reads it
        {SIGNATURE_HEADER: f"t=+{NOW},v1=00"},
        {SIGNATURE_HEADER: f"t={NOW},t={NOW},v1=00"},
        {SIGNATURE_HEADER: f"t={NOW}," + ",".join(["v1=00"] * 6)},
        {SIGNATURE_HEADER: "t=" + "9" * 2_000},
        signed(secret=b"another secret"),
        signed(body=BODY + b" "),
        signed(at=NOW - 301),
        signed(at=NOW + 301),
    ],
)
def test_a_post_without_a_valid_signature_is_refused(headers):
    with pytest.raises(ReceiptNotAuthentic):
        verify(auth(kind="hmac"), headers)


def test_the_time_is_part_of_what_is_signed():
    old = signed(at=NOW - 1_000)[SIGNATURE_HEADER].replace(str(NOW - 1_000), str(NOW))
    with pytest.raises(ReceiptNotAuthentic, match="wrong"):
        verify(auth(kind="hmac"), {SIGNATURE_HEADER: old})


def test_without_a_stored_secret_nothing_is_authentic():
    for kind in ("hmac", "bearer"):
        with pytest.raises(ReceiptNotAuthentic, match="secret"):
            verify(auth(kind=kind), {**signed(secret=b""), "Authorization": "Bearer "}, secret=None)


def test_a_token_that_is_no_utf8_is_refused_not_a_crash():
    with pytest.raises(ReceiptNotAuthentic):
        verify(auth(kind="bearer"), {"Authorization": "Bearer wh\udcffsec"})


def test_a_bearer_token_is_compared_whole():
    verify(auth(kind="bearer"), {"authorization": "bearer a shared secret"})
    verify(auth(kind="bearer", header="X-Token"), {"X-Token": "a shared secret"})
    for wrong in ("Bearer a shared secre", "Bearer ", "", "Basic a shared secret", "Bearer \u00fc"):
        with pytest.raises(ReceiptNotAuthentic):
            verify(auth(kind="bearer"), {"Authorization": wrong})


@pytest.mark.parametrize("remote", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"])
def test_the_carriers_addresses_are_let_in(remote):
    verify(auth(kind="address", networks=["192.0.2.0/24", "2001:db8::/32"]), {}, secret=None, remote=remote)


@pytest.mark.parametrize("remote", ["192.0.3.7", "::1", "", None, "unix:", "192.0.2.7.evil"])
def test_other_addresses_are_refused(remote):
    for section in ({"kind": "address"}, {"kind": "hmac"}):
        with pytest.raises(ReceiptNotAuthentic, match="address"):
            verify(auth(**section, networks=["192.0.2.0/24", "2001:db8::/32"]), signed(), remote=remote)


@pytest.mark.parametrize(
    "section", [{"kind": "address"}, {"kind": "hmac", "networks": ["192.0.2.7/24"]}, {"kind": "none"}, {}]
)
def test_settings_that_would_let_everybody_in_are_refused(section):
    with pytest.raises(msgspec.ValidationError):
        auth(**section)


def test_one_secret_serves_every_use_or_each_has_its_own():
    assert named_secret(b"plain", "submit") == "plain"
    assert named_secret(b'{"submit":"a","receipts":"b"}', "receipts") == "b"
    assert named_secret(b"{not json", "submit") == "{not json"
    for opened, use in ((None, "submit"), (b"", "submit"), (b'{"submit":"a"}', "receipts")):
        with pytest.raises(CarrierSecretMissing):
            named_secret(opened, use)


def test_what_the_head_proves_needs_no_body_and_a_signature_does():
    inside = {"networks": ["192.0.2.0/24"]}
    token = {"Authorization": "Bearer a shared secret"}
    assert verify_receipt_head(auth(kind="bearer"), SECRET, token, None, NOW)
    assert verify_receipt_head(auth(kind="address", **inside), None, {}, PEER, NOW)
    guessed = {SIGNATURE_HEADER: f"t={NOW},v1=guessed"}
    assert not verify_receipt_head(auth(kind="hmac", **inside), SECRET, guessed, PEER, NOW)
    with pytest.raises(ReceiptNotAuthentic, match="signature is wrong"):
        verify(auth(kind="hmac", **inside), guessed)


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"kind": "hmac"}, {}),
        ({"kind": "hmac"}, {SIGNATURE_HEADER: "v1=00"}),
        ({"kind": "hmac"}, {SIGNATURE_HEADER: f"t={NOW - 301},v1=00"}),
        ({"kind": "hmac", "networks": ["198.51.100.0/24"]}, {SIGNATURE_HEADER: f"t={NOW},v1=00"}),
        ({"kind": "bearer"}, {"Authorization": "Bearer guessed"}),
    ],
)
def test_a_head_that_cannot_be_the_carriers_is_refused_before_its_body(settings, headers):
    with pytest.raises(ReceiptNotAuthentic):
        verify_receipt_head(auth(**settings), SECRET, headers, PEER, NOW)
