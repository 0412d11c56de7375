"""``sms.receipt.<carrier>``: wakes dlr. The receipts themselves are in PostgreSQL already (DESIGN 7)."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from shared.events.wire import MalformedEvent, decoder, encode

__all__ = ["BUNDLE_MAX", "MalformedEvent", "ReceiptBundle", "decode", "encode"]

VERSION: Final = 1
BUNDLE_MAX: Final = 500

ReceiptIdHex = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class ReceiptBundle(Struct, frozen=True, kw_only=True):
    """Ids of kept receipts that are to be settled now."""

    v: int = VERSION
    carrier_id: Annotated[int, Meta(ge=1, le=32_767)]
    receipt_ids: Annotated[list[ReceiptIdHex], Meta(min_length=1, max_length=BUNDLE_MAX)]


decode = decoder(ReceiptBundle, VERSION)
