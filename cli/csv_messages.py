"""Messages from a CSV file: the columns ``to`` and ``text``; other columns are left alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cli.csv_rows import CsvFault, CsvRow, read_rows

COLUMNS: Final = ("to", "text")
# About a million messages; more are better sent as several files, which can also be sent side by side.
FILE_BYTES_MAX: Final = 256 * 2**20
# Beyond any text that can be sent (255 segments), so that a batch always fits into a request.
TEXT_CHARACTERS_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class CsvMessage:
    """One row: the line it begins on (the header is line 1), and its two fields."""

    line: int
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class CsvFile:
    """The rows of a file in their order, and the SHA-256 of its bytes as hex."""

    sha256: str
    messages: Sequence[CsvMessage]


def read_csv(raw: bytes) -> CsvFile:
    """Return the messages of a file.

    Spaces around a number are taken off; texts stay as they are.

    Raises:
        CsvFault: as ``read_rows``; a row has no text or too long a one, or there is no row at all.
    """
    messages = [_message(row) for row in read_rows(raw, COLUMNS)]
    if not messages:
        raise CsvFault("there is no message in it: the header has no rows below it")
    return CsvFile(hashlib.sha256(raw).hexdigest(), messages)


def _message(row: CsvRow) -> CsvMessage:
    to, text = row.fields
    if not text:
        raise CsvFault(f"line {row.line} has no text")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise CsvFault(f"line {row.line}: a text of {len(text)} characters is more than any message can hold")
    return CsvMessage(row.line, to.strip(), text)
