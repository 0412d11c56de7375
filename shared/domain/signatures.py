"""Signatures of callbacks: Standard Webhooks 1.0.0, the symmetric scheme ``v1``.

What is signed is ``webhook-id.webhook-timestamp.body``, over the bytes of the body exactly as they are sent.
A receiver verifies with any Standard Webhooks library, or with ``verify`` below.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix that every secret of the standard begins with
# Both bounds are the standard's.
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
# A rotation has two; a third covers a rotation in a hurry during a rotation. More would only grow a header.
ACTIVE_SECRETS_MAX = 3
# The tolerance of the standard's reference libraries, both ways.
TOLERANCE_SECONDS = 300
# A receiver looks at no more than this many items of the list, so that a hostile header costs nothing.
SIGNATURES_READ_MAX = 16

_VERSION = "v1"


class SecretFormatError(ValueError):
    """The secret is not whsec_ followed by the base64 of 24 to 64 bytes."""


class SignatureError(ValueError):
    """The callback can't be trusted: its headers are incomplete, too old or too new, or no signature fits."""


def new_secret(random_bytes: bytes) -> str:
    """Return the text of a new secret, made of 24 to 64 bytes from a secure random source.

    Raises:
        SecretFormatError: too few or too many bytes.
    """
    _check_length(random_bytes)
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Return the key bytes of a ``whsec_…`` text; the base64 may lack its padding, as some tools strip it.

    Raises:
        SecretFormatError: it is no such text. The message never holds the secret.
    """
    if not text.startswith(SECRET_PREFIX):
        raise SecretFormatError(f"a secret begins with {SECRET_PREFIX}")
    encoded = text[len(SECRET_PREFIX) :].rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SecretFormatError(f"what follows {SECRET_PREFIX} is not base64") from None
    _check_length(key)
    return key


def _check_length(key: bytes) -> None:
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise SecretFormatError(
            f"a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not {len(key)}"
        )


def sign(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return one item of the signature list, ``v1,<base64>``. The timestamp is in whole unix seconds."""
    signed = b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp, body)
    digest = hmac.digest(secret, signed, hashlib.sha256)
    return f"{_VERSION},{binascii.b2a_base64(digest, newline=False).decode('ascii')}"


def signature_list(secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``: an item per active secret, separated by spaces.

    While a secret is being rotated there are two, so a receiver that knows either one verifies.

    Raises:
        ValueError: no secret at all, or more than ACTIVE_SECRETS_MAX.
    """
    if not 1 <= len(secrets) <= ACTIVE_SECRETS_MAX:
        raise ValueError(f"a callback is signed with 1 to {ACTIVE_SECRETS_MAX} secrets, not {len(secrets)}")
    return " ".join([sign(secret, webhook_id, timestamp, body) for secret in secrets])


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[bytes],
    now_seconds: float,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> None:
    """Return if one of the secrets signed this callback within the tolerance.

    Header names are matched without regard to case. Items of other versions (``v1a``) are passed over.

    Raises:
        SignatureError: with a sentence that says what is wrong.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    webhook_id = _present(by_name, ID_HEADER)
    timestamp = _timestamp(_present(by_name, TIMESTAMP_HEADER), now_seconds, tolerance_seconds)
    offered = _offered(_present(by_name, SIGNATURE_HEADER))
    try:
        expected = [sign(secret, webhook_id, timestamp, body) for secret in secrets]
    except UnicodeEncodeError:
        raise SignatureError(f"{ID_HEADER} has characters that no id has") from None
    # Every pair is compared, each in constant time, so that nothing is learned from how long it took.
    matches = [
        hmac.compare_digest(want.encode(), got.encode("utf-8", "surrogateescape"))
        for want in expected
        for got in offered
    ]
    if not any(matches):
        raise SignatureError("no signature fits: another secret, or the body was changed on its way")


def _present(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise SignatureError(f"the header {name} is missing")
    return value


def _timestamp(text: str, now_seconds: float, tolerance_seconds: int) -> int:
    # Ten digits last until the year 2286; int() alone would also take "+1", "1_0" and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise SignatureError(f"{TIMESTAMP_HEADER} is not in whole unix seconds")
    age_seconds = now_seconds - int(text)
    if abs(age_seconds) > tolerance_seconds:
        when = "too old" if age_seconds > 0 else "in the future"
        raise SignatureError(
            f"{TIMESTAMP_HEADER} is {when} by {abs(age_seconds):.0f} s; {tolerance_seconds} s are allowed"
        )
    return int(text)


def _offered(value: str) -> list[str]:
    items = [item for item in value.split(" ")[:SIGNATURES_READ_MAX] if item.startswith(f"{_VERSION},")]
    if not items:
        raise SignatureError(f"{SIGNATURE_HEADER} has no item of version {_VERSION}")
    return items
