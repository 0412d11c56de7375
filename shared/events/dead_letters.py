"""``sms.dlq``: messages that were given up, and why; ids only."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from shared.events.wire import MalformedEvent, decoder, encode

__all__ = ["DeadLetter", "MalformedEvent", "decode", "encode"]

VERSION: Final = 1

MessageIdHex = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One message that no carrier took, after so many attempts."""

    v: int = VERSION
    message_id: MessageIdHex
    client_id: int
    reason: str
    attempts: int
    at: Annotated[datetime, Meta(tz=True)]


decode = decoder(DeadLetter, VERSION)
