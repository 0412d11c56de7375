"""What a message costs: segments times the rate of the longest prefix of its number (DESIGN 4)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from shared.domain.money import CurrencyMismatch, Money
from shared.domain.segments import SEGMENTS_LIMIT

# A million currency units a segment: above it a price is a typing error, and below it no product of
# segments and price leaves 64 bits of micros.
PRICE_MICROS_MAX = 1_000_000 * 1_000_000
# E.164: at most 15 digits. There is no empty prefix: a price for every country there is, known or not,
# is what fraud with expensive destinations lives on.
_PREFIX = re.compile(r"[1-9][0-9]{0,14}")


class InvalidRate(ValueError):  # noqa: N818 - named for what happened
    """The rate has no usable prefix or price, or the table holds its prefix already."""


class NoRate(ValueError):  # noqa: N818 - named for what happened
    """The client has no price for this destination, so nothing can be sent there."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one segment to the numbers that begin with ``prefix`` (digits, no plus)."""

    prefix: str
    price_micros: int
    currency: str

    def __post_init__(self) -> None:
        """Refuse a rate that nobody can have meant, and what Money refuses."""
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidRate(
                f"a prefix is 1 to 15 digits that begin with a country code, not {self.prefix!r}"
            )
        if not 0 <= Money(self.price_micros, self.currency).micros <= PRICE_MICROS_MAX:
            raise InvalidRate(f"a price is 0 to {PRICE_MICROS_MAX} whole micros, not {self.price_micros!r}")


class Priced(NamedTuple):
    """What a message costs, by which version of the rates and by which prefix."""

    amount_micros: int
    currency: str
    rate_version: int
    prefix: str


class RateTable:
    """One client's rates at one version, in one currency."""

    __slots__ = ("_lengths", "_rates", "currency", "version")

    def __init__(self, rates: Iterable[Rate], version: int) -> None:
        """Take the rates in any order.

        Raises:
            InvalidRate: a prefix comes twice.
            CurrencyMismatch: the rates are of more than one currency.
        """
        self.version = version
        self.currency: str | None = None
        self._rates: dict[str, Rate] = {}
        for rate in rates:
            if rate.prefix in self._rates:
                raise InvalidRate(f"the prefix {rate.prefix} comes twice")
            if self.currency not in (None, rate.currency):
                raise CurrencyMismatch(f"{self.currency} and {rate.currency} in one table")
            self.currency = rate.currency
            self._rates[rate.prefix] = rate
        self._lengths = tuple(sorted({len(prefix) for prefix in self._rates}, reverse=True))

    def __len__(self) -> int:
        return len(self._rates)

    def price(self, e164: str, segments: int) -> Priced:
        """Return what a message of so many segments costs to a number in E.164 (with its plus).

        One look-up for each length of prefix that the table has, the longest first.

        Raises:
            NoRate: no prefix fits.
            ValueError: ``segments`` is not 1 to 255.
        """
        if not 1 <= segments <= SEGMENTS_LIMIT:
            raise ValueError(f"a message has 1 to {SEGMENTS_LIMIT} segments, not {segments}")
        digits = e164[1:]
        for length in self._lengths:
            rate = self._rates.get(digits[:length])
            if rate is not None:
                return Priced(rate.price_micros * segments, rate.currency, self.version, rate.prefix)
        raise NoRate(f"there is no rate for {e164[:4]}…")
