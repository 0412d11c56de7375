"""The headers that make one attempt verifiable: Standard Webhooks 1.0.0."""

from collections.abc import Sequence
from uuid import UUID

from shared.domain.signatures import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature_list

WEBHOOK_ID_PREFIX = "msg_"


def webhook_id(callback_id: UUID) -> str:
    """Return the id that a receiver sees: the same on every attempt, and without a full stop."""
    return WEBHOOK_ID_PREFIX + callback_id.hex


def signed_headers(callback_id: UUID, secrets: Sequence[bytes], unix_seconds: int, body: bytes) -> bytes:
    """Return the three header lines of an attempt made at this second, each with its line end."""
    name = webhook_id(callback_id)
    signatures = signature_list(secrets, name, unix_seconds, body)
    lines = (
        f"{ID_HEADER}: {name}\r\n{TIMESTAMP_HEADER}: {unix_seconds}\r\n{SIGNATURE_HEADER}: {signatures}\r\n"
    )
    return lines.encode("ascii")
