"""Texts that make segmentation hard: long enough to be cut, full of what must not be cut."""

from hypothesis import strategies as st

from shared.domain.alphabet import DEFAULT_CHARACTERS, EXTENSION_CHARACTERS
from shared.domain.segments import Encoding

PART_UNITS = {Encoding.GSM7: 153, Encoding.UCS2: 67}
SINGLE_UNITS = {Encoding.GSM7: 160, Encoding.UCS2: 70}

_GSM7_PIECES = ["a", "é", "€", "[", "\r\n", "\n", "\f", "\r", "@", "ab" * 20]
_UCS2_PIECES = [
    *_GSM7_PIECES,
    "й",
    "e\u0301",
    "a\u0328\u0301\u0323",
    "😀",
    "👍🏽",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇩🇪",
    "🇫",
    "1\ufe0f\u20e3",
    "\u1112\u1161\u11ab",
    "क्षि",
    "\u200d",
    "\u0301",
    "й" * 30,
    "𠮷" * 9,
]
_storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_gsm7 = st.sampled_from(sorted(DEFAULT_CHARACTERS | EXTENSION_CHARACTERS))


def texts() -> st.SearchStrategy[str]:
    """Return storable texts, not empty: mostly of some hundred characters, up to about 1,000."""
    return st.one_of(
        st.text(_storable, min_size=1),
        st.text(_gsm7, min_size=140, max_size=500),
        st.text(_storable, min_size=60, max_size=300),
        _joined(_GSM7_PIECES),
        _joined(_UCS2_PIECES),
    )


def _joined(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), min_size=20, max_size=150).map("".join)


def units_of(character: str, encoding: Encoding) -> int:
    """Return what a character takes, told apart from the module's own counting."""
    if encoding is Encoding.GSM7:
        return 2 if character in "\f^{}\\[~]|€" else 1
    return len(character.encode("utf-16-be")) // 2


def fewest_parts(pieces: list[str] | str, encoding: Encoding) -> int:
    """Return how many parts an unhurried packing of whole pieces, in order, takes."""
    parts, room = 0, 0
    for piece in pieces:
        units = sum(units_of(character, encoding) for character in piece)
        if units > room:
            parts, room = parts + 1, PART_UNITS[encoding]
        room -= units
    return parts
