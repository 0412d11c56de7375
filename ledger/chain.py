"""The hash chain of the journal, as ledger/functions/entry_hash_v1.sql computes it (RULES 26).

An auditor can follow an account's chain from an export with nothing but this file; golden vectors in
tests/contract hold it and the SQL together.
"""

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID

# Before an account's first entry.
GENESIS: Final = bytes(32)
_LINK: Final = 1
NO_MESSAGE: Final = bytes(16)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KIND_CODES: Final = MappingProxyType(
    {"top_up": 1, "hold": 2, "capture": 3, "release": 4, "adjustment": 5, "late_capture": 6}
)

# The byte 1, the hash before, account, version, time, kind, message, debit, credit, amount, posted, held.
_FIXED: Final = struct.Struct(">B32sqqqi16sqqqqq")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; amounts in micros, ``at`` with its zone."""

    account_id: int
    version: int
    at: datetime
    kind: str
    message_id: UUID | None
    debit_account: int
    credit_account: int
    amount_micros: int
    posted_after_micros: int
    held_after_micros: int
    reference: str | None
    reason: str | None


def entry_hash(previous: bytes, entry: Entry) -> bytes:
    """Return the 32 bytes that the entry after ``previous`` carries.

    Integers are 8 bytes big-endian, the time is µs since the epoch, the kind a number of 4 bytes, a text
    its length in 4 bytes (-1: null) and its UTF-8, an absent message 16 zero bytes.
    """
    return link(
        previous,
        text_bytes(entry.reference) + text_bytes(entry.reason),
        entry.account_id,
        entry.version,
        (entry.at - _EPOCH) // timedelta(microseconds=1),
        KIND_CODES[entry.kind],
        NO_MESSAGE if entry.message_id is None else entry.message_id.bytes,
        entry.debit_account,
        entry.credit_account,
        entry.amount_micros,
        entry.posted_after_micros,
        entry.held_after_micros,
    )


def link(previous: bytes, texts: bytes, *fixed: int | bytes) -> bytes:
    """The same for who writes millions of entries.

    Args:
        texts: reference and reason, each by ``text_bytes``.
        fixed: the other fields of ``Entry``: the time in µs, the kind's number, the message's 16 bytes.
    """
    return hashlib.sha256(_FIXED.pack(_LINK, previous, *fixed) + texts).digest()


def text_bytes(text: str | None) -> bytes:
    """Return a text as it is hashed."""
    if text is None:
        return struct.pack(">i", -1)
    utf8 = text.encode()
    return struct.pack(">i", len(utf8)) + utf8
