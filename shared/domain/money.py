"""Money: whole micros (1/1,000,000 of the currency unit) with a currency (DESIGN 4).

In JSON an amount is a decimal string. No float reaches this module: an amount that is not an ``int``
raises, and two currencies refuse to meet.
"""

import re
from dataclasses import dataclass

MICROS_PER_UNIT = 1_000_000
# The columns are PostgreSQL bigint.
MICROS_MAX = 2**63 - 1
MICROS_MIN = -(2**63)
# 2**63 micros are 9,223,372,036,854.775808 units: 13 digits before the point. More can only be a mistake,
# and the bound keeps int() from reading a megabyte of digits.
_WHOLE_DIGITS_MAX = 13
_FRACTION_DIGITS_MAX = 6
# Prices are shown as 0.0750, not as 0.075: a tenth of a cent is the usual step of an SMS price.
_FRACTION_DIGITS_MIN = 4

_DECIMAL = re.compile(
    rf"(-?)(0|[1-9][0-9]{{0,{_WHOLE_DIGITS_MAX - 1}}})(?:\.([0-9]{{1,{_FRACTION_DIGITS_MAX}}}))?"
)
# The same with more digits than an amount has.
_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_SHOWN_CHARACTERS_MAX = 40
_CURRENCY = re.compile(r"[A-Z]{3}")


class MoneyFormatError(ValueError):
    """The amount is not a plain decimal string with at most six decimals, like "0.0079"."""


class MoneyOutOfRange(ValueError):  # noqa: N818 - named for what happened
    """The amount does not fit into 64 bits of micros."""


class CurrencyMismatch(ValueError):  # noqa: N818 - named for what happened
    """Two amounts of different currencies cannot be added, subtracted or ordered."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency; ``currency`` is the three capital letters of ISO 4217.

    Amounts of two currencies are unequal, so that ``==`` and dict keys work; ``+``, ``-``, ``<``, ``<=``,
    ``>`` and ``>=`` raise CurrencyMismatch for them. Results that leave 64 bits raise MoneyOutOfRange.
    """

    micros: int
    currency: str

    def __post_init__(self) -> None:
        """Refuse what is not an int (a bool is none) and what PostgreSQL could not store."""
        if type(self.micros) is not int:
            raise TypeError(f"micros is a whole number, not {type(self.micros).__name__}")
        if not MICROS_MIN <= self.micros <= MICROS_MAX:
            raise MoneyOutOfRange(f"{self.micros} micros do not fit into 64 bits")
        if not _CURRENCY.fullmatch(self.currency):
            raise MoneyFormatError(f"a currency is three capital letters, not {self.currency!r}")

    def __add__(self, other: "Money") -> "Money":
        return Money(self.micros + self._same_currency(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.micros - self._same_currency(other), self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.micros, self.currency)

    def __mul__(self, count: int) -> "Money":
        if type(count) is not int:
            raise TypeError(f"money is multiplied by a whole number, not {type(count).__name__}")
        return Money(self.micros * count, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.micros < self._same_currency(other)

    def __le__(self, other: "Money") -> bool:
        return self.micros <= self._same_currency(other)

    def __gt__(self, other: "Money") -> bool:
        return self.micros > self._same_currency(other)

    def __ge__(self, other: "Money") -> bool:
        return self.micros >= self._same_currency(other)

    def __str__(self) -> str:
        return f"{format_micros(self.micros)} {self.currency}"

    def _same_currency(self, other: "Money") -> int:
        if not isinstance(other, Money):
            raise TypeError(f"money meets money, not {type(other).__name__}")
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency}")
        return other.micros


def parse_micros(text: str) -> int:
    """Return the micros of a decimal string: "0.0079" is 7900.

    Plain decimals only: an optional minus, no leading zeros, no exponent, no plus, no spaces, at most six
    decimals.

    Raises:
        MoneyFormatError: anything else, or an amount beyond 64 bits of micros.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise MoneyFormatError(_why_no_amount(text))
    sign, whole, fraction = match.groups()
    micros = int(whole) * MICROS_PER_UNIT + int((fraction or "").ljust(_FRACTION_DIGITS_MAX, "0"))
    if sign:
        micros = -micros
    if not MICROS_MIN <= micros <= MICROS_MAX:
        raise MoneyFormatError(f"{text} is too large an amount")
    return micros


def _why_no_amount(text: str) -> str:
    plain = _PLAIN.fullmatch(text[:_SHOWN_CHARACTERS_MAX])
    if plain is not None and len(text) <= _SHOWN_CHARACTERS_MAX:
        if len(plain[1]) > _WHOLE_DIGITS_MAX:
            return f"{text} is too large an amount"
        return f"an amount has at most {_FRACTION_DIGITS_MAX} decimals, and {text} has {len(plain[2])}"
    return f'an amount is a decimal string like "0.0079", not {text[:_SHOWN_CHARACTERS_MAX]!r}'


def format_micros(micros: int) -> str:
    """Return the decimal string of an amount: 7900 is "0.0079", 75000 is "0.0750", 1 is "0.000001".

    At least four decimals and no more than needed; ``parse_micros`` reads it back.
    """
    whole, fraction = divmod(abs(micros), MICROS_PER_UNIT)
    sign = "-" if micros < 0 else ""
    decimals = f"{fraction:0{_FRACTION_DIGITS_MAX}d}".rstrip("0").ljust(_FRACTION_DIGITS_MIN, "0")
    return f"{sign}{whole}.{decimals}"
