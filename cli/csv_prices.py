"""A price list from a CSV file: the columns ``prefix`` and ``price``; an empty price ends a rate."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from api.ledger_schemas import RateLine
from cli.csv_rows import CsvFault, CsvRow, read_rows

COLUMNS: Final = ("prefix", "price")


def read_prices(raw: bytes) -> Sequence[dict[str, Any]]:
    """Return the lines as the API takes them, each looked at: no request is sent for half a list.

    Raises:
        CsvFault: as ``read_rows``; a line is no prefix and price, a prefix is there twice, or nothing is. A
            whole price with digits behind a comma is one that the comma has cut in two.
    """
    lines: dict[str, dict[str, Any]] = {}
    for row in read_rows(raw, COLUMNS):
        line = _line(row)
        if line["prefix"] in lines:
            raise CsvFault(f"line {row.line}: the prefix {line['prefix']} was there before")
        lines[line["prefix"]] = line
    if not lines:
        raise CsvFault("there is no price in it: the header has no rows below it")
    return list(lines.values())


def _line(row: CsvRow) -> dict[str, Any]:
    prefix, price = (field.strip() for field in row.fields)
    fraction = row.behind[COLUMNS.index("price")].strip()
    if price.isdigit() and fraction.isdigit():
        raise CsvFault(
            f"line {row.line}: a price of '{price},{fraction}', with a decimal comma? Right are 0.0750, with "
            f"a point, and {price}.0 for a whole one beside another number"
        )
    line = {"prefix": prefix.removeprefix("+"), "price": price or None}
    try:
        msgspec.convert(line, RateLine)
    except msgspec.ValidationError as error:
        what = f"{prefix!r} is no prefix" if "prefix" in str(error) else f"{price!r} is no price"
        raise CsvFault(f"line {row.line}: {what}; right are 49 and 0.0750, with a point") from None
    return line
