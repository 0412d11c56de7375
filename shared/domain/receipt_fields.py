"""The single facts of a carrier's receipt, read strictly where money hangs on them."""

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from uuid import UUID

# Longest reference seen is 64; the column and its index want some limit.
REFERENCE_MAX_CHARS = 255
# 255 decimal digits; Python refuses to print integers of thousands of digits.
INTEGER_MAX_BITS = 847
# Stands for bytes that are no UTF-8: two different texts may be the same with it.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
# A code is for a table, a sentence belongs in the carrier's own log.
ERROR_CODE_MAX_CHARS = 64
# TS 23.040: the part number is one octet.
PART_NO_MAX = 255
# The column is a smallint.
ATTEMPT_NO_MAX = 32_767
# A done date outside these years is a broken clock or a wrong format, not a date.
DONE_AT_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
DONE_AT_LAST = datetime(2100, 1, 1, tzinfo=UTC)
# E.164; the shortest numbers in use have five digits with their country code.
MSISDN_DIGITS_MIN, MSISDN_DIGITS_MAX = 5, 15


class MalformedReceipt(ValueError):  # noqa: N818 - named for what happened
    """The carrier's POST is not a receipt as its settings describe one; the text names what is wrong."""


class DoneAtFormat(StrEnum):
    """How the carrier writes a moment; `smpp` is YYMMDDhhmm, YYMMDDhhmmss or YYYYMMDDhhmmss."""

    ISO8601 = "iso8601"
    UNIX_SECONDS = "unix_seconds"
    UNIX_MS = "unix_ms"
    SMPP = "smpp"


def plain_text(value: object | None) -> str | None:
    """Return a carrier's text or whole number as 1 to REFERENCE_MAX_CHARS printable characters, stripped.

    None when it is anything else. References of submits and of receipts both pass here, so they compare.
    """
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= INTEGER_MAX_BITS:
        text = str(value)
    else:
        return None
    return text if 0 < len(text) <= REFERENCE_MAX_CHARS and text.isprintable() else None


def required_text(name: str, value: object | None) -> str:
    """Return a fact that must be there.

    Raises:
        MalformedReceipt: it is missing, too long, or not plain text; or it could not be decoded whole.
    """
    text = plain_text(value)
    if text is None or UNREADABLE in text:
        raise MalformedReceipt(
            f"{name} must be a text or whole number of 1 to {REFERENCE_MAX_CHARS} printable characters"
        )
    return text


def echoed_id(value: object | None) -> UUID | None:
    """Return our id that the carrier echoes. Anything else was not ours to begin with and proves nothing."""
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def international(value: object | None) -> str | None:
    """Return the number in E.164; one with the 0 of its country before it is no evidence: None.

    A national number that has no such 0 looks like another country's: whoever compares it has to know.
    """
    digits = (plain_text(value) or "").removeprefix("+").removeprefix("00")
    is_number = digits.isascii() and digits.isdigit() and not digits.startswith("0")
    return f"+{digits}" if is_number and MSISDN_DIGITS_MIN <= len(digits) <= MSISDN_DIGITS_MAX else None


def error_code(value: object | None) -> str | None:
    """Return the carrier's error code, cut to ERROR_CODE_MAX_CHARS; None when there is none."""
    return None if value is None else (plain_text(value) or "")[:ERROR_CODE_MAX_CHARS] or None


def is_said(value: object | None) -> bool:
    """True when the carrier says something in this field."""
    return value is not None and value != ""


def small_number(name: str, value: object | None, number_max: int) -> int | None:
    """Return a number from 1 to `number_max`; None when the carrier says none, or 0.

    Raises:
        MalformedReceipt: there is something else.
    """
    if not is_said(value):
        return None
    text = plain_text(value) or ""
    if text.isascii() and text.isdigit() and len(text) <= len(str(number_max)) and int(text) <= number_max:
        return int(text) or None
    raise MalformedReceipt(f"{name} must be a whole number from 1 to {number_max}")


def done_at(form: DoneAtFormat, utc_offset_minutes: int, value: object | None) -> datetime | None:
    """Return the moment of delivery in UTC; None when the carrier says none.

    None as well when it is not a moment in this format, or not in this century: no money hangs on it, and
    settling takes its own clock then.
    """
    if not is_said(value):
        return None
    try:
        moment = _moment(form, value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=utc_offset_minutes)))
        if DONE_AT_FIRST <= moment < DONE_AT_LAST:
            return moment.astimezone(UTC)
    except (ValueError, TypeError, LookupError, OverflowError, OSError):
        pass
    return None


_SMPP_DATES = {10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S", 14: "%Y%m%d%H%M%S"}


def _moment(form: DoneAtFormat, value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("not a date")
    match form:
        case DoneAtFormat.UNIX_SECONDS:
            return datetime.fromtimestamp(float(value), UTC)
        case DoneAtFormat.UNIX_MS:
            return datetime.fromtimestamp(float(value) / 1000, UTC)
        case DoneAtFormat.ISO8601:
            return datetime.fromisoformat(str(value))
        case DoneAtFormat.SMPP:
            text = str(value)
            return datetime.strptime(text, _SMPP_DATES[len(text)])  # noqa: DTZ007 - the settings name the zone
