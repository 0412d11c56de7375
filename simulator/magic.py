"""Numbers that always have the same outcome, whatever the rules say.

They are +1 NPA 555 01XY. NANPA keeps 555-0100 to 555-0199 of every area code for fiction, so none can be a
subscriber's, and libphonenumber takes them as valid. XY chooses the outcome, the area code is one of eight,
so that each outcome has eight numbers. Only full numbers are magic: a real number never is by its ending.
"""

from collections.abc import Mapping
from types import MappingProxyType

from simulator.outcomes import Outcome, Script, script_for

# Washington, Denver, Toccoa, Albuquerque, Ashland, Santa Rosa, Honolulu, Pomona: easy to remember.
AREA_CODES = ("202", "303", "404", "505", "606", "707", "808", "909")
_FIRST_DIGITS = frozenset(f"+1{area_code}" for area_code in AREA_CODES)
_EXCHANGE = "55501"
# +1, area code, exchange and the two digits that choose.
_LENGTH = 12

_WITHOUT_ARGUMENT = {
    0: Outcome.DELIVERED,
    1: Outcome.UNDELIVERABLE,
    2: Outcome.EXPIRED,
    3: Outcome.REJECTED,
    4: Outcome.SILENT,
    5: Outcome.ENROUTE_THEN_DELIVERED,
    6: Outcome.UNKNOWN_STATE,
    10: Outcome.REFUSED,
    20: Outcome.ALWAYS_TEMPORARY,
    30: Outcome.ALWAYS_THROTTLED,
    50: Outcome.NO_ANSWER,
    51: Outcome.NO_ANSWER_LOST,
    52: Outcome.CLOSES,
    53: Outcome.CLOSES_LOST,
    54: Outcome.CLOSES_MID_REPLY,
    55: Outcome.GARBAGE,
    60: Outcome.RECEIPT_FIRST,
    61: Outcome.RECEIPT_TWICE,
    62: Outcome.UNDELIVERED_AFTER_DELIVERED,
    63: Outcome.DELIVERED_AFTER_UNDELIVERED,
    64: Outcome.ENROUTE_AFTER_DELIVERED,
    65: Outcome.LATE_RECEIPT,
    70: Outcome.DUPLICATE_REFERENCE,
    71: Outcome.UNKNOWN_REFERENCE,
}
# The tens digit names the outcome, the last digit says how often or how long.
_WITH_ARGUMENT = {2: Outcome.TEMPORARY, 3: Outcome.THROTTLED, 4: Outcome.SLOW}


def _endings() -> dict[str, Script]:
    endings = {f"{code:02}": script_for(outcome, None, None) for code, outcome in _WITHOUT_ARGUMENT.items()}
    for tens, outcome in _WITH_ARGUMENT.items():
        endings |= {f"{tens}{digit}": script_for(outcome, digit, digit) for digit in range(1, 10)}
    return endings


MAGIC_ENDINGS: Mapping[str, Script] = MappingProxyType(_endings())


def magic_script(msisdn: str) -> Script | None:
    """Return the script of a magic number; None when the number is none."""
    is_magic = len(msisdn) == _LENGTH and msisdn[:5] in _FIRST_DIGITS and msisdn[5:10] == _EXCHANGE
    return MAGIC_ENDINGS.get(msisdn[10:]) if is_magic else None


def magic_number(outcome: Outcome, argument: int = 1, area: int = 0) -> str:
    """Return the number of an outcome.

    `argument` from 1 to 9 is how often or how long, for outcomes that have one; `area` is from 0 to 7.
    """
    tens = {named: tens for tens, named in _WITH_ARGUMENT.items()}
    if outcome in tens:
        return f"+1{AREA_CODES[area]}{_EXCHANGE}{tens[outcome]}{argument}"
    code = {named: code for code, named in _WITHOUT_ARGUMENT.items()}[outcome]
    return f"+1{AREA_CODES[area]}{_EXCHANGE}{code:02}"
