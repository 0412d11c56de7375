"""The price list that a new instance begins with: default_rates.csv, examples to be replaced by your own.

The prices are of the size that wholesale SMS costs in each country, a segment in EUR; no carrier has
offered them. Every calling code that has mobile phones has one, so that a newcomer's first message goes
anywhere. There is none for +800, +808 and +979, which are services and not phones.
"""

import csv
from pathlib import Path
from typing import Final

from shared.domain.money import parse_micros
from shared.domain.rates import Rate

CURRENCY: Final = "EUR"
_FILE: Final = Path(__file__).with_name("default_rates.csv")


def default_rates() -> list[Rate]:
    """Return the price list; columns of the file: prefix (digits), price (decimal), place (for people)."""
    with _FILE.open(newline="", encoding="utf-8") as file:
        return [Rate(row["prefix"], parse_micros(row["price"]), CURRENCY) for row in csv.DictReader(file)]
