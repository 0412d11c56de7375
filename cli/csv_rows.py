"""Rows of a CSV file by the names of their columns, for every command that reads one.

RFC 4180 as spreadsheets write it: quotes, line breaks inside fields, a byte order mark, and a comma, a
semicolon or a tab between columns (the header tells which). A file that is not right is refused as a whole,
with the line, before anything is done with it.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

DELIMITERS: Final = (",", ";", "\t")
# A quote that never ends would otherwise take the rest of the file for one field.
FIELD_CHARACTERS_MAX: Final = 131_072
NAMES_SHOWN_MAX: Final = 10


class CsvFault(ValueError):  # noqa: N818 - named for what it is
    """The file cannot be used; the text says where and what would be right."""


class CsvRow(NamedTuple):
    """One row: the line it begins on (the header's is 1), and its fields in the order that was asked for.

    ``behind``: what stands behind each of them with nothing but a comma between; "" where another
    delimiter does, or nothing is there.
    """

    line: int
    fields: Sequence[str]
    behind: Sequence[str]


def read_rows(raw: bytes, columns: Sequence[str]) -> Iterator[CsvRow]:
    """Yield the rows of a file, of each the fields of ``columns``; other columns are left alone.

    Blank lines do not count. A row must not have more fields than the header names, unless they are empty: a
    comma that belongs to a text or to a number would cut it off there without a word.

    Raises:
        CsvFault: no UTF-8, no CSV, a column is missing, a row is too short or too long.
    """
    text = _decoded(raw)
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: Sequence[str] | None = None
    places: Sequence[int] = ()
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise CsvFault(_in_words(str(error), line)) from None
        if not row:
            continue
        if header is None:
            header, places = row, _places(row, columns)
        else:
            _refuse_ragged(line, row, header, places, delimiter)
            yield CsvRow(line, [row[place] for place in places], _behind(row, places, delimiter))
    if header is None:
        raise CsvFault(f"it is empty; the first line names the columns {','.join(columns)}")


def _in_words(fault: str, line: int) -> str:
    """What is wrong with the row that begins on a line, beyond what the reader of CSV says."""
    if fault == "unexpected end of data":
        return f"a quote opened on line {line} is never closed"
    if fault.startswith("field larger than field limit"):
        most = f"{FIELD_CHARACTERS_MAX:,} characters"
        return f"line {line}: a field has more than {most}; is a quote in it never closed?"
    if "expected after" in fault:
        return f"line {line}: {fault}; a quote within a quoted field is written twice"
    return f"line {line}: {fault}"


def _decoded(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CsvFault("it is UTF-16; save it as CSV UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CsvFault(f"line {line} is not UTF-8; save it as CSV UTF-8") from None


def _delimiter(text: str) -> str:
    """The one of DELIMITERS that stands most often in the header; names of columns hold none."""
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def _places(header: Sequence[str], columns: Sequence[str]) -> Sequence[int]:
    names = [name.strip().lower() for name in header]
    for column in columns:
        if names.count(column) > 1:
            raise CsvFault(f"the column {column!r} is there {names.count(column)} times")
        if column not in names:
            shown = ", ".join(repr(name) for name in names[:NAMES_SHOWN_MAX])
            raise CsvFault(f"there is no column {column!r}; the first line names {shown}")
    return [names.index(column) for column in columns]


def _refuse_ragged(
    line: int, row: Sequence[str], header: Sequence[str], places: Sequence[int], delimiter: str
) -> None:
    # Spreadsheets leave out the empty columns at the end of a row, or add some.
    if len(row) <= max(places):
        raise CsvFault(f"line {line} has {len(row)} columns; the first line names more")
    named = max(place for place, name in enumerate(header, 1) if name.strip())
    if any(field.strip() for field in row[named:]):
        raise CsvFault(
            f"line {line} has {len(row)} columns, the first line {named}; "
            f"a field that holds {delimiter!r} stands in double quotes"
        )


def _behind(row: Sequence[str], places: Sequence[int], delimiter: str) -> Sequence[str]:
    is_comma = delimiter == ","
    return [row[place + 1] if is_comma and place + 1 < len(row) else "" for place in places]
