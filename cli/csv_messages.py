"""Messages from a CSV file: the columns ``to`` and ``text``; other columns are left alone.

RFC 4180 as spreadsheets write it: quotes, line breaks inside texts, a byte order mark, and a comma, a
semicolon or a tab between columns (the header tells which). A file that is not right is refused as a whole,
with the line, before anything is sent.
"""

import codecs
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

COLUMNS: Final = ("to", "text")
DELIMITERS: Final = (",", ";", "\t")
# About a million messages; more are better sent as several files, which can also be sent side by side.
FILE_BYTES_MAX: Final = 256 * 2**20
# Beyond any text that can be sent (255 segments), so that a batch always fits into a request.
TEXT_CHARACTERS_MAX: Final = 50_000
# A quote that never ends would otherwise take the rest of the file for one text.
FIELD_CHARACTERS_MAX: Final = 131_072
NAMES_SHOWN_MAX: Final = 10


class CsvFault(ValueError):  # noqa: N818 - named for what it is
    """The file cannot be read as messages; the text says where and what would be right."""


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

    Blank lines do not count. Spaces around a number are taken off; texts stay as they are.

    Raises:
        CsvFault: no UTF-8, no CSV, a column is missing, a row is short, or there is no row at all.
    """
    text = _decoded(raw)
    messages = list(_rows(text))
    if not messages:
        raise CsvFault("there is no message in it: the header has no rows below it")
    return CsvFile(hashlib.sha256(raw).hexdigest(), messages)


def _decoded(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CsvFault("it is UTF-16; save it as CSV UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CsvFault(f"line {line} is not UTF-8; save it as CSV UTF-8") from None


def _rows(text: str) -> Iterator[CsvMessage]:
    lines = io.StringIO(text, newline="")
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    reader = csv.reader(lines, delimiter=_delimiter(text), strict=True)
    places: dict[str, int] | None = None
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            if places is None:
                raise CsvFault("it is empty; the first line names the columns to,text") from None
            return
        except csv.Error as error:
            raise CsvFault(f"line {line}: {error}") from None
        if not row:
            continue
        if places is None:
            places = _places(row)
        else:
            yield _message(line, row, places)


def _delimiter(text: str) -> str:
    """The one of DELIMITERS that stands most often in the header; names of columns hold none."""
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def _places(header: Sequence[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    for column in COLUMNS:
        if names.count(column) > 1:
            raise CsvFault(f"the column {column!r} is there {names.count(column)} times")
        if column not in names:
            shown = ", ".join(repr(name) for name in names[:NAMES_SHOWN_MAX])
            raise CsvFault(f"there is no column {column!r}; the first line names {shown}")
    return {column: names.index(column) for column in COLUMNS}


def _message(line: int, row: Sequence[str], places: dict[str, int]) -> CsvMessage:
    if len(row) <= max(places.values()):
        raise CsvFault(f"line {line} has {len(row)} columns; the first line names more")
    text = row[places["text"]]
    if not text:
        raise CsvFault(f"line {line} has no text")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise CsvFault(f"line {line}: a text of {len(text)} characters is more than any message can hold")
    return CsvMessage(line, row[places["to"]].strip(), text)
