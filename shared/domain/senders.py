"""What can stand as the sender of a message (TP-OA, 3GPP TS 23.040, 9.1.2.5)."""

from typing import Final

from shared.domain.alphabet import DEFAULT_CHARACTERS

RULE: Final = "must hold characters of the GSM 7-bit alphabet, without line breaks"

_CHARACTERS: Final = frozenset(character for character in DEFAULT_CHARACTERS if character.isprintable())


def is_sender(text: str) -> bool:
    """Whether carriers can take it. A look-alike of another alphabet is none, nor what cannot be seen."""
    return (text.isascii() and text.isprintable()) or _CHARACTERS.issuperset(text)
