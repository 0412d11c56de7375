"""What can stand as the sender of a message (TP-OA, 3GPP TS 23.040, 9.1.2.5)."""

import re
from functools import lru_cache
from typing import Final

from shared.domain.alphabet import DEFAULT_CHARACTERS, EXTENSION_CHARACTERS, encode_gsm7

# An address has ten octets.
NAME_SEPTETS_MAX: Final = 11
RULE: Final = (
    "must be at most 11 characters of the GSM 7-bit alphabet, without line breaks (of its extension, as €, "
    "each takes the room of two), or a number of at most 15 digits"
)

_is_number = re.compile(r"\+?[0-9]{1,15}").fullmatch
_CHARACTERS: Final = frozenset(
    character for character in DEFAULT_CHARACTERS | EXTENSION_CHARACTERS if character.isprintable()
)


@lru_cache(maxsize=1_000)
def is_sender(text: str) -> bool:
    """Whether carriers can take it. A look-alike of another alphabet is none, nor what cannot be seen."""
    if _is_number(text):
        return True
    return _CHARACTERS.issuperset(text) and len(encode_gsm7(text)) <= NAME_SEPTETS_MAX
