"""What a message costs: segments times the rate of the longest prefix of its number (DESIGN 4)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

from shared.domain.money import Money
from shared.domain.segments import SEGMENTS_LIMIT

# A million currency units a segment: above it a price is a typing error, and below it no product of
# segments and price leaves 64 bits of micros.
PRICE_MICROS_MAX = 1_000_000 * 1_000_000
# E.164: at most 15 digits. There is no empty prefix: a price for every country there is, known or not,
# is what fraud with expensive destinations lives on.
_PREFIX = re.compile(r"[1-9][0-9]{0,14}")

Find: TypeAlias = Callable[[str], int | None]
"""Returns the micros a segment of just this prefix; None where it has no price."""


class InvalidRate(ValueError):  # noqa: N818 - named for what happened
    """The rate has no usable prefix or price."""


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


class Priced(Struct, frozen=True, gc=False):
    """What a message costs, by which version of the rates and by which prefix."""

    amount_micros: int
    currency: str
    rate_version: int
    prefix: str


class RateTable:
    """What a segment costs by prefix, at one version and in one currency: everybody's list, or a client's."""

    __slots__ = ("currency", "find", "lengths", "version")

    def __init__(
        self, prices: Mapping[str, int], currency: str, version: int, *, everybodys: "RateTable | None" = None
    ) -> None:
        """Take micros a segment by prefix, as ``Rate`` has let them pass.

        Args:
            prices: a client's own ones if ``everybodys`` is given, which they are laid over. That list is
                shared, not copied: thousands of clients have one or two prices of their own.
            currency: of all of them, and of ``everybodys``.
            version: of the configuration that they were read from, and ``everybodys`` with them.
            everybodys: the list, which stands where it has a longer prefix.

        Raises:
            InvalidRate: a price that nobody can have meant.
        """
        for extreme in (min(prices.values(), default=0), max(prices.values(), default=0)):
            if not 0 <= extreme <= PRICE_MICROS_MAX:
                raise InvalidRate(f"a price is 0 to {PRICE_MICROS_MAX} whole micros, not {extreme!r}")
        self.currency = currency
        self.version = version
        self.find: Find = prices.get
        lengths = {len(prefix) for prefix in prices}
        if everybodys is not None:
            self.find = _first(prices.get, everybodys.find)
            lengths.update(everybodys.lengths)
        self.lengths: tuple[int, ...] = tuple(sorted(lengths, reverse=True))
        """Of the prefixes, the longest first."""

    def price(self, e164: str, segments: int) -> Priced:
        """Return what a message of so many segments costs to a number in E.164 (with its plus).

        The longest prefix decides; a client's own price stands before everybody's of the same prefix. One
        look-up for each length of prefix that there is, the longest first.

        Raises:
            NoRate: no prefix fits.
            ValueError: ``segments`` is not 1 to 255.
        """
        if not 1 <= segments <= SEGMENTS_LIMIT:
            raise ValueError(f"a message has 1 to {SEGMENTS_LIMIT} segments, not {segments}")
        digits = e164[1:]
        find = self.find
        for length in self.lengths:
            prefix = digits[:length]
            micros = find(prefix)
            if micros is not None:
                return Priced(micros * segments, self.currency, self.version, prefix)
        raise NoRate(f"there is no rate for {e164[:4]}…")


def _first(own: Find, everybodys: Find) -> Find:
    def find(prefix: str) -> int | None:
        micros = own(prefix)
        return everybodys(prefix) if micros is None else micros

    return find
