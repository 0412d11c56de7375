"""``sms.event.<status>``: facts for reporting, bundled; no text, no number (RULES 35)."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from shared.events.wire import MalformedEvent, decoder, encode

__all__ = ["BUNDLE_MAX", "Fact", "FactBundle", "MalformedEvent", "decode", "encode"]

VERSION: Final = 1
BUNDLE_MAX: Final = 100

MessageIdHex = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message reached one state. Counted once by (message_id, status, attempt_no)."""

    message_id: MessageIdHex
    client_id: int
    status: str
    at: Annotated[datetime, Meta(tz=True)]
    region: str
    lane: str
    segments: int
    amount_micros: int
    currency: str
    carrier_id: int | None = None
    attempt_no: int = 0
    error: str | None = None
    msisdn_hash: str | None = None


class FactBundle(Struct, frozen=True, kw_only=True):
    """Facts of one status."""

    v: int = VERSION
    facts: Annotated[list[Fact], Meta(min_length=1, max_length=BUNDLE_MAX)]


decode = decoder(FactBundle, VERSION)
