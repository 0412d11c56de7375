"""The GSM 7-bit default alphabet and its extension table (3GPP TS 23.038, 6.2.1 and 6.2.1.1).

A character of the default alphabet is one septet; one of the extension table is two, the escape and its
code. Everything else needs UCS-2.

National language shift tables (TS 23.038 annex A) are data of the same shape as the two tables here: when
a route asks for them they go beside these, as further (locking, single shift) pairs of a table keyed by
language identifier, and ``segments`` chooses among them with the smaller capacity their header leaves.
They are not built: a phone that does not know a locking table shows wrong letters.
"""

from enum import StrEnum
from types import MappingProxyType

ESCAPE = 0x1B

# The position is the septet's value. 0x1B is the escape; its place holds the character U+001B, which no
# text can mean, so it is left out of DEFAULT_CHARACTERS below.
_DEFAULT_TABLE = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
_EXTENSION_TABLE = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}

DEFAULT_CHARACTERS = frozenset(_DEFAULT_TABLE) - {chr(ESCAPE)}
EXTENSION_CHARACTERS = frozenset(_EXTENSION_TABLE.values())

_SEPTETS = MappingProxyType(
    {character: bytes((code,)) for code, character in enumerate(_DEFAULT_TABLE) if code != ESCAPE}
    | {character: bytes((ESCAPE, code)) for code, character in _EXTENSION_TABLE.items()}
)


class Encoding(StrEnum):
    """How a text travels. GSM7: septets; UCS2: 16-bit units, astral characters as surrogate pairs."""

    GSM7 = "GSM7"
    UCS2 = "UCS2"


class NotInAlphabet(ValueError):  # noqa: N818 - named for what happened
    """The text holds a character that the GSM 7-bit alphabet does not have."""


class NotSeptets(ValueError):  # noqa: N818 - named for what happened
    """The bytes are no septets: a value above 127, or an escape with nothing after it."""


def encode_gsm7(text: str) -> bytes:
    """Return the septets of a text, one in each byte (unpacked).

    Raises:
        NotInAlphabet: the text needs UCS-2.
    """
    try:
        return b"".join([_SEPTETS[character] for character in text])
    except KeyError as error:
        raise NotInAlphabet(f"U+{ord(error.args[0]):04X} is not in the GSM 7-bit alphabet") from None


def decode_gsm7(septets: bytes) -> str:
    """Return the text of unpacked septets; ``encode_gsm7`` is its inverse.

    As TS 23.038 6.2.1.1 asks of a receiver: an escaped code that the extension table does not have shows
    the default alphabet's character of that code, and a doubled escape a space.

    Raises:
        NotSeptets: a value above 127, or an escape at the end.
    """
    characters = []
    codes = iter(septets)
    for code in codes:
        if code != ESCAPE:
            characters.append(_default_character(code))
            continue
        escaped = next(codes, None)
        if escaped is None:
            raise NotSeptets("an escape at the end of the septets")
        characters.append(
            " " if escaped == ESCAPE else _EXTENSION_TABLE.get(escaped) or _default_character(escaped)
        )
    return "".join(characters)


def _default_character(code: int) -> str:
    if code >= len(_DEFAULT_TABLE):
        raise NotSeptets(f"0x{code:02X} is no septet")
    return _DEFAULT_TABLE[code]
