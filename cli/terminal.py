"""What a text may do on a terminal: be read. What would move its cursor, or name its window, is left out."""

import re
import unicodedata
from typing import Any, Final

import msgspec

# What stands for a character that cannot be shown.
DOT: Final = "·"
# Lines and columns of a text; the joiners are letters' own, of emoji and of Persian.
_SHOWN: Final = "\n\t\u200c\u200d"
# U+007F to U+009F, as UTF-8: JSON need not escape them, and some terminals obey them as they obey ESC.
_OBEYED: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def printable(text: str, shown: str = _SHOWN) -> str:
    """A text of as many characters, with a dot for each that is no letter, sign or space, nor ``shown``."""
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) or letter in shown else DOT for letter in text)


def json_bytes(value: Any, *, indent: int = 2) -> bytes:
    """A JSON document of ASCII's and other printable characters: anything that msgspec writes.

    Args:
        indent: of 0 all stands in one line.
    """
    written = msgspec.json.encode(value)
    if indent:
        written = msgspec.json.format(written, indent=indent)
    return _OBEYED.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), written)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"
