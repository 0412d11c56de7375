"""What may be shown of a value in a log line or on a span: no text of a message, and no number in full."""

import re
from collections.abc import Mapping
from datetime import date
from enum import Enum
from typing import Any, Final
from uuid import UUID

# What a message says is nobody's business but its sender's and its reader's.
REFUSED_KEYS: Final = frozenset({"text", "texts", "body", "payload", "short_message"})
MSISDN_KEYS: Final = frozenset({"msisdn", "msisdns", "to", "destination", "recipient", "phone", "number"})
REFUSED: Final = "[not logged]"
MSISDN_DIGITS_SHOWN: Final = 2
# How deep a value is followed and how long a string may be; what is beyond is not worth a log line.
DEPTH_MAX: Final = 4
STRING_CHARS_MAX: Final = 8192
# What every JSON reader can hold; a longer number is written as a string.
INT_BITS_MAX: Final = 53

# E.164 has 15 digits at most; below seven it is a short code, which is nobody's own number.
_E164: Final = re.compile(r"\+\d{7,15}")
# PostgreSQL puts the failing row, text and all, into the DETAIL of its error.
_DETAIL: Final = re.compile(r"DETAIL:.*?(?=\nHINT:|\n\n|\nTraceback |\Z)", re.DOTALL)


def clean(value: Any, *, key: str = "", depth: int = 0) -> Any:
    """Return a value as a log may show it: JSON types only, no text of a message, msisdns masked."""
    if key in REFUSED_KEYS:
        return REFUSED
    if isinstance(value, str):
        return _clean_string(value, key)
    if isinstance(value, int) and (key in MSISDN_KEYS or value.bit_length() > INT_BITS_MAX):
        return _clean_string(str(value), key)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum | BaseException | UUID | date):
        return clean(value.value if isinstance(value, Enum) else str(value), key=key, depth=depth + 1)
    if depth >= DEPTH_MAX:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(name): clean(inner, key=str(name), depth=depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(inner, key=key, depth=depth + 1) for inner in value]
    # The repr of any other object could hold a text.
    return f"<{type(value).__name__}>"


def mask_msisdn(text: str) -> str:
    """Hide every digit but the last two: ``+4915112345678`` becomes ``+***********78``."""
    digits_left = sum(character.isdigit() for character in text)
    masked: list[str] = []
    for character in text:
        is_hidden = character.isdigit() and digits_left > MSISDN_DIGITS_SHOWN
        digits_left -= character.isdigit()
        masked.append("*" if is_hidden else character)
    return "".join(masked)


def _clean_string(value: str, key: str) -> str:
    shown = value.encode("utf-8", "replace").decode()
    shown = _DETAIL.sub(f"DETAIL: {REFUSED}", shown)
    if key in MSISDN_KEYS:
        shown = mask_msisdn(shown)
    shown = _E164.sub(lambda found: mask_msisdn(found.group()), shown)
    if len(shown) <= STRING_CHARS_MAX:
        return shown
    # A traceback says what happened at its end and where at its beginning.
    half = STRING_CHARS_MAX // 2
    return f"{shown[:half]} … {shown[-half:]}"
