"""``sms.send.<lane>``: work for the workers, ids only (RULES 15, docs/adr/0007).

Nothing private is in JetStream, and an old stream that comes back is harmless: a claim in PostgreSQL
decides whether a (message, dispatch number) pair is still work.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from shared.events.wire import MalformedEvent, decoder, encode

__all__ = ["BUNDLE_MAX", "Bundle", "Lane", "MalformedEvent", "decode", "encode"]

VERSION: Final = 1
# Enough that JetStream costs little a message, small enough that one worker's loss is little work.
BUNDLE_MAX: Final = 100

Lane = Literal["express", "normal", "bulk"]
MessageIdHex = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
DispatchNumber = Annotated[int, Meta(ge=1, le=2_147_483_647)]


class Bundle(Struct, frozen=True, kw_only=True):
    """Messages of one lane for one carrier: (message id in hex, dispatch number) pairs."""

    v: int = VERSION
    lane: Lane
    carrier_id: Annotated[int, Meta(ge=1, le=32_767)]
    work: Annotated[list[tuple[MessageIdHex, DispatchNumber]], Meta(min_length=1, max_length=BUNDLE_MAX)]


decode = decoder(Bundle, VERSION)
