"""Rows as COPY's binary form wants them, and the rows of a message that is over or that waits.

A row's columns are constants, or numbers and bytes of fixed width, so that one ``struct`` packs a row:
half a microsecond, where a general encoder takes several.
"""

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from ledger.chain import text_bytes

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER: Final = struct.pack(">h", -1)
NULL: Final = struct.pack(">i", -1)
# PostgreSQL counts time from 2000-01-01.
EPOCH_US: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
EPOCH_DAY: Final = date(2000, 1, 1).toordinal()
# ``f-`` and 16 hex digits; ``fill-`` and 6 digits.
REFERENCE: Final = "18s"
TOP_UP_REFERENCE: Final = "11s"

Columns = Mapping[str, str | bytes | None]


def smallint(number: int) -> bytes:
    """A constant of two bytes."""
    return struct.pack(">h", number)


def _sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class Table:
    """The rows of one table that wait to be written."""

    def __init__(self, name: str, columns: tuple[str, ...]) -> None:
        self.name = name
        self.columns = columns
        self.rows: list[bytes] = []

    def take(self) -> bytes:
        """Return what COPY reads, and forget it."""
        document = b"".join((SIGNATURE, *self.rows, TRAILER))
        self.rows.clear()
        return document


class Row:
    """One kind of row: a ``struct`` code (``q``, ``16s``) for what each row has its own of, bytes for a
    constant, None for NULL.
    """

    def __init__(self, table: Table, columns: Columns) -> None:
        code, constant = ">", struct.pack(">h", len(columns))
        self._values: list[Any] = []
        for kind in columns.values():
            if kind is None:
                constant += NULL
            elif isinstance(kind, bytes):
                constant += _sized(kind)
            else:
                constant += struct.pack(">i", struct.calcsize(">" + kind))
                code += f"{len(constant)}s{kind}"
                self._values += [constant, None]
                constant = b""
        self._values.append(constant)
        self._pack = struct.Struct(f"{code}{len(constant)}s").pack
        self._append = table.rows.append

    def __call__(self, *values: Any) -> None:
        """Add a row; ``values`` in the order of the columns that are not constant."""
        self._values[1::2] = values
        self._append(self._pack(*self._values))


class Tables:
    """Every table that was asked for a kind of row."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, tuple[str, ...]], Table] = {}

    def row(self, table: str, **columns: str | bytes | None) -> Row:
        """Make a kind of row; those of one table and the same columns are written together."""
        key = (table, tuple(columns))
        return Row(self._tables.setdefault(key, Table(*key)), columns)

    def filled(self) -> Iterator[Table]:
        """The tables that have rows."""
        return (table for table in self._tables.values() if table.rows)


ENTRY: Final = {"account_id": "q", "version": "q", "day": "i", "at": "q"}
SUMS: Final = {
    "debit_account": "q", "credit_account": "q", "amount_micros": "q", "posted_after_micros": "q",
    "held_after_micros": "q", "reference": None, "reason": None, "hash": "32s",
}  # fmt: skip


class Rows:
    """The kinds of rows of one fill."""

    def __init__(self, tables: Tables, currency: str, carrier_id: int, text_bytes: int) -> None:
        carrier, row = smallint(carrier_id), tables.row
        self.top_up = row(
            "ledger.entries", **ENTRY, kind=b"top_up", message_id=None,
            **(SUMS | {"reference": TOP_UP_REFERENCE}),
        )  # fmt: skip
        self.hold = row("ledger.entries", **ENTRY, kind=b"hold", message_id="16s", **SUMS)
        self.operation = row(
            "ledger.operations", account_id="q", reference=TOP_UP_REFERENCE, kind=b"top_up",
            amount_micros="q", entry_version="q", posted_after_micros="q", held_after_micros="q",
            credit_limit_after_micros=bytes(8), actor=b"bench.fill", at="q",
        )  # fmt: skip
        self.message = row(
            "tollwire.messages", id="16s", client_id="q", msisdn="13s", region="2s", sender=b"ACME",
            lane=b"normal", encoding=b"GSM7", segments=smallint(1), price_micros="q",
            currency=currency.encode(), rate_version=struct.pack(">q", 1), delivery=b"at_most_once",
            charge=b"delivered", valid_until="q", is_test=b"\x00", created_at="q",
        )  # fmt: skip
        self.text = row("tollwire.message_texts", message_id="16s", sealed=f"{text_bytes}s", expires_on="i")
        self.reference = row(
            "tollwire.carrier_references", carrier_id=carrier, reference=REFERENCE, submitted_at="q",
            message_id="16s", attempt_no=smallint(1), part_no=smallint(1),
        )  # fmt: skip
        self.waiting = Waiting(tables, carrier)
        self.delivered = End(tables, carrier, "capture", "delivered", "DELIVERED")
        self.undelivered = End(tables, carrier, "release", "undelivered", "UNDELIVERED")


class Waiting:
    """The rows of a message that nobody has sent yet."""

    def __init__(self, tables: Tables, carrier: bytes) -> None:
        row = tables.row
        self.lock = row(
            "ledger.credit_locks", message_id="16s", account_id="q", amount_micros="q", state=b"HELD",
            hold_version="q", held_at="q", resolved_at=None, reason=None,
        )  # fmt: skip
        self.state = row(
            "tollwire.message_states", message_id="16s", state=b"QUEUED", attempt_no=smallint(0),
            tries=smallint(0), carrier_id=carrier, parts_delivered=smallint(0), sequence=smallint(0),
            claim_id=None, submitted_at=None, final_at=None, updated_at="q", error_code=None,
        )  # fmt: skip
        self.outbox = row(
            "tollwire.outbox", message_id="16s", lane=b"normal", carrier_id=carrier, due_at="q",
            dispatch_at="q",
        )  # fmt: skip


class End:
    """The rows of a message that ended one way. ``word``: the receipt's state and the hold's reason."""

    def __init__(self, tables: Tables, carrier: bytes, kind: str, word: str, state: str) -> None:
        row, reason, self.is_capture = tables.row, word.encode(), kind == "capture"
        self.texts = text_bytes(None) + text_bytes(word)
        self.entry = row(
            "ledger.entries", **ENTRY, kind=kind.encode(), message_id="16s", **(SUMS | {"reason": reason})
        )
        self.lock = row(
            "ledger.credit_locks", message_id="16s", account_id="q", amount_micros="q",
            state=b"CAPTURED" if self.is_capture else b"RELEASED", hold_version="q", held_at="q",
            resolved_at="q", reason=reason,
        )  # fmt: skip
        self.state = row(
            "tollwire.message_states", message_id="16s", state=state.encode(), attempt_no=smallint(1),
            tries=smallint(1), carrier_id=carrier, parts_delivered=smallint(int(self.is_capture)),
            sequence=smallint(3), claim_id="16s", submitted_at="q", final_at="q", updated_at="q",
            error_code=None if self.is_capture else reason,
        )  # fmt: skip
        self.attempt = row(
            "tollwire.attempts", message_id="16s", attempt_no=smallint(1), part_no=smallint(1),
            carrier_id=carrier, claimed_at="q", outcome=b"submitted", outcome_at="q", reference=REFERENCE,
            receipt=reason, receipt_at="q",
        )  # fmt: skip
        self.receipt = row(
            "tollwire.receipts", id="16s", carrier_id=carrier, reference=REFERENCE, state=reason,
            done_at="q", msisdn="13s", received_at="q", due_at="q", tries=smallint(1), settled_at="q",
            outcome=b"moved", message_id="16s", attempt_no=smallint(1), part_no=smallint(1),
        )  # fmt: skip
        self.callback = row(
            "tollwire.callbacks", id="16s", message_id="16s", client_id="q", endpoint_id="q",
            event_type=b"message." + reason, sequence=smallint(3), attempts=smallint(1), due_at="q",
            created_at="q", done_at="q", outcome=b"delivered", status=smallint(200),
            duration_ms=struct.pack(">i", 30),
        )  # fmt: skip
