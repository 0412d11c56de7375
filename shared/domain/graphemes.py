"""Where a text may be cut without tearing apart what a reader sees as one character.

A rule set after UAX #29 (extended grapheme clusters) on ``unicodedata`` alone, so its knowledge of new
characters is that of the running Python. Covered: CR LF, combining marks, variation selectors, emoji
modifiers and tags, ZWJ sequences, regional indicator pairs (flags), Hangul jamo, conjuncts of the living
Indic scripts. Simplified: a symbol after a ZWJ always belongs to what stands before it, and so does a
letter right after a linking virama; every spacing mark (Mc) does. Left out: prepended marks (GB9b), and
joiners between a virama and its letter. A cut at a place this module allows is never wrong for the
segment count or for the characters; at worst a rare cluster is shown in two halves by a phone that shows
parts apart.
"""

import unicodedata
from enum import IntEnum

_CR, _LF = "\r", "\n"
_ZWNJ, _ZWJ = "\u200c", "\u200d"
# No character before the combining diacritical marks joins the one before it, but LF after CR.
_FIRST_JOINING = "\u0300"
_MARKS = frozenset({"Mn", "Me", "Mc"})
_CONTROLS = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
_SYMBOLS = frozenset({"So", "Sm"})
# Extenders that are no marks: the halfwidth katakana sound marks, and the Thai and Lao vowels AM.
_OTHER_EXTENDERS = frozenset({_ZWNJ, _ZWJ, "\uff9e", "\uff9f", "\u0e33", "\u0eb3"})
# The viramas that bind the next letter into a conjunct: Devanagari, Bengali, Gujarati, Oriya, Telugu,
# Malayalam, Myanmar, Khmer, Tai Tham. The others (Tamil's) show as themselves.
_LINKERS = frozenset("\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60")
_EMOJI_MODIFIERS = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
# The pictographic blocks, with places that this Python's Unicode data may not know yet.
_PICTOGRAPHS = range(0x1F000, 0x1FB00)


class _Hangul(IntEnum):
    NONE = 0
    L = 1
    V = 2
    T = 3
    LV = 4
    LVT = 5


_HANGUL_JOINS = frozenset(
    {
        *((_Hangul.L, after) for after in (_Hangul.L, _Hangul.V, _Hangul.LV, _Hangul.LVT)),
        *((before, after) for before in (_Hangul.LV, _Hangul.V) for after in (_Hangul.V, _Hangul.T)),
        *((before, _Hangul.T) for before in (_Hangul.LVT, _Hangul.T)),
    }
)
_HANGUL_JAMO = (
    (range(0x1100, 0x1160), _Hangul.L),
    (range(0x1160, 0x11A8), _Hangul.V),
    (range(0x11A8, 0x1200), _Hangul.T),
    (range(0xA960, 0xA97D), _Hangul.L),
    (range(0xD7B0, 0xD7C7), _Hangul.V),
    (range(0xD7CB, 0xD7FC), _Hangul.T),
)
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
_HANGUL_SYLLABLES_A_BLOCK = 28


def is_boundary(text: str, index: int) -> bool:
    """True when the text may be cut before ``text[index]`` (0 < index < len) with no cluster torn."""
    before, after = text[index - 1], text[index]
    if after < _FIRST_JOINING:
        return not (before == _CR and after == _LF)
    if _is_control(before):
        return True
    if _extends(after):
        return False
    if before == _ZWJ:
        return not _is_pictograph(after)
    if before in _LINKERS:
        return unicodedata.category(after) != "Lo"
    if ord(after) in _REGIONAL_INDICATORS:
        return _regional_indicators_before(text, index) % 2 == 0
    return (_hangul(before), _hangul(after)) not in _HANGUL_JOINS


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROLS and not _extends(character)


def _extends(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in _MARKS
        or character in _OTHER_EXTENDERS
        or code in _EMOJI_MODIFIERS
        or code in _TAGS
    )


def _is_pictograph(character: str) -> bool:
    return ord(character) in _PICTOGRAPHS or unicodedata.category(character) in _SYMBOLS


def _regional_indicators_before(text: str, index: int) -> int:
    """Count the unbroken run of regional indicators that ends before ``index``: they pair from its start."""
    start = index
    while start > 0 and ord(text[start - 1]) in _REGIONAL_INDICATORS:
        start -= 1
    return index - start


def _hangul(character: str) -> _Hangul:
    code = ord(character)
    if code in _HANGUL_SYLLABLES:
        first_of_block = (code - _HANGUL_SYLLABLES.start) % _HANGUL_SYLLABLES_A_BLOCK == 0
        return _Hangul.LV if first_of_block else _Hangul.LVT
    for block, kind in _HANGUL_JAMO:
        if code in block:
            return kind
    return _Hangul.NONE
