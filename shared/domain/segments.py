"""From a text to the billable parts a phone receives (3GPP TS 23.040 9.2.3.24, TS 23.038).

A text whose characters are all in the GSM 7-bit alphabet travels as septets, every other as UCS-2 (in
UTF-16 units, as every phone reads it). One segment holds 160 septets or 70 units; of a text in parts
each holds 153 or 67, since the concatenation header takes 6 of the 140 octets.

The preview and the bill call ``segment`` alone, so they cannot differ. National language shift tables
would give other capacities and other unit counts: see ``shared.domain.alphabet`` for their place.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from shared.domain.alphabet import DEFAULT_CHARACTERS, EXTENSION_CHARACTERS, Encoding
from shared.domain.graphemes import is_boundary

__all__ = [
    "SEGMENTS_LIMIT",
    "SEGMENTS_MAX",
    "Encoding",
    "Segmented",
    "TextEmpty",
    "TextError",
    "TextNotStorable",
    "TextTooLong",
    "characters_max",
    "segment",
]

# 1,530 septets or 670 units. Many carriers refuse more, and a text beyond it is a mistake more often than
# a wish. A client's plan may name another limit, up to what the header can count.
SEGMENTS_MAX = 10
# The part numbers of the concatenation header are one octet (TS 23.040 9.2.3.24.1).
SEGMENTS_LIMIT = 255

_SINGLE_SEPTETS = 160
_PART_SEPTETS = 153
_SINGLE_UNITS = {Encoding.GSM7: _SINGLE_SEPTETS, Encoding.UCS2: 70}
_PART_UNITS = {Encoding.GSM7: _PART_SEPTETS, Encoding.UCS2: 67}
_FIRST_ASTRAL = "\U00010000"

# Python's regex engine tests these classes against a bitmap: 0.4 µs for 100 characters.
_is_default_only = re.compile(f"[{re.escape(''.join(sorted(DEFAULT_CHARACTERS)))}]*").fullmatch
_is_gsm7 = re.compile(f"[{re.escape(''.join(sorted(DEFAULT_CHARACTERS | EXTENSION_CHARACTERS)))}]*").fullmatch


class TextError(ValueError):
    """The text cannot be sent as an SMS."""


class TextEmpty(TextError):  # noqa: N818 - named for what happened
    """The text is empty."""


class TextNotStorable(TextError):  # noqa: N818 - named for what happened
    """The text holds a NUL or half of a surrogate pair, which is no text and cannot be stored."""


class TextTooLong(TextError):  # noqa: N818 - named for what happened
    """The text needs more segments than allowed; nothing is ever cut off."""

    def __init__(self, encoding: Encoding | None, segments_needed: int, segments_max: int) -> None:
        """Keep both numbers: the answer names them.

        With no ``encoding`` the text was not looked at, and ``segments_needed`` is what it takes at least.
        """
        needed = f"at least {segments_needed} segments"
        if encoding is not None:
            needed = f"{segments_needed} segments as {encoding}"
        super().__init__(f"the text needs {needed}, at most {segments_max} may be sent")
        self.encoding = encoding
        self.segments_needed = segments_needed
        self.segments_max = segments_max


class Segmented(Struct, frozen=True, gc=False):
    """A measured text. ``count`` segments are sent and billed; ``units``: septets or UTF-16 units of all."""

    text: str
    encoding: Encoding
    count: int
    units: int

    @property
    def segments(self) -> tuple[str, ...]:
        """The ``count`` parts, whose concatenation is the text; cut anew at each asking, as few ask."""
        if self.count == 1:
            return (self.text,)
        offsets = _offsets(self.text, self.encoding, self.units)
        return _split(self.text, offsets, _PART_UNITS[self.encoding], self.count)


def segment(text: str, *, segments_max: int = SEGMENTS_MAX) -> Segmented:
    """Measure a text, and say into how few segments it is split.

    No escape pair and no surrogate pair is ever cut. A grapheme cluster (an emoji with its joiners, a
    flag, a letter with its marks) stays whole wherever that takes no further segment.

    Raises:
        TextEmpty: there is nothing to send.
        TextNotStorable: a NUL or a lone surrogate.
        TextTooLong: more than ``segments_max`` (1 to 255) segments are needed. It comes first for a text
            of more than ``characters_max``, which is not looked at.
        ValueError: ``segments_max`` itself is out of range.
    """
    if not 1 <= segments_max <= SEGMENTS_LIMIT:
        raise ValueError(f"segments_max is 1 to {SEGMENTS_LIMIT}, not {segments_max}")
    if not text:
        raise TextEmpty("the text is empty")
    if len(text) > _SINGLE_SEPTETS and len(text) > characters_max(segments_max):
        raise TextTooLong(None, -(-len(text) // _PART_SEPTETS), segments_max)
    encoding, units = _measure(text)
    needed = 1 if units <= _SINGLE_UNITS[encoding] else _parts_needed(text, encoding, units)
    if needed > segments_max:
        raise TextTooLong(encoding, needed, segments_max)
    return Segmented(text, encoding, needed, units)


def characters_max(segments_max: int = SEGMENTS_MAX) -> int:
    """Return how many characters so many segments can hold: those of the alphabet that takes least room.

    Of what is longer nothing has to be known. It comes by the megabyte, for a thousand messages at once.
    """
    return max(_SINGLE_SEPTETS, segments_max * _PART_SEPTETS)


def _measure(text: str) -> tuple[Encoding, int]:
    if _is_default_only(text):
        return Encoding.GSM7, len(text)
    if _is_gsm7(text):
        return Encoding.GSM7, len(text) + sum(map(text.count, EXTENSION_CHARACTERS))
    if "\0" in text:
        raise TextNotStorable("the text holds a NUL character")
    try:
        return Encoding.UCS2, len(text.encode("utf-16-le")) // 2
    except UnicodeEncodeError as error:
        raise TextNotStorable(f"the text holds half of a surrogate pair at character {error.start}") from None


def _parts_needed(text: str, encoding: Encoding, units: int) -> int:
    part_units = _PART_UNITS[encoding]
    if units == len(text):  # each character is one unit, so no cut wastes any
        return -(-units // part_units)
    return _parts_from(0, _offsets(text, encoding, units), part_units)


def _offsets(text: str, encoding: Encoding, units: int) -> Sequence[int]:
    """Return where each character begins, in units, and at the end where the text ends."""
    if units == len(text):
        return range(units + 1)
    if encoding is Encoding.GSM7:
        return list(accumulate((1 + (c in EXTENSION_CHARACTERS) for c in text), initial=0))
    return list(accumulate((1 + (c >= _FIRST_ASTRAL) for c in text), initial=0))


def _end_of_part(start: int, offsets: Sequence[int], part_units: int) -> int:
    """Return the last index at which a part that begins at ``start`` can end; no character is cut."""
    return bisect_right(offsets, offsets[start] + part_units, start) - 1


def _parts_from(start: int, offsets: Sequence[int], part_units: int) -> int:
    """Return the fewest parts that hold the text from ``start``: greedy is optimal for a sequence."""
    parts = 0
    while start < len(offsets) - 1:
        start = _end_of_part(start, offsets, part_units)
        parts += 1
    return parts


def _split(text: str, offsets: Sequence[int], part_units: int, parts: int) -> tuple[str, ...]:
    """Cut the text into exactly ``parts``, each as late as possible.

    A cut moves back to the boundary of a cluster if what is left then still fits into the parts left.
    """
    segments = []
    start = 0
    for parts_left in range(parts - 1, 0, -1):
        latest = _end_of_part(start, offsets, part_units)
        end = latest
        while end > start and not is_boundary(text, end):
            end -= 1
        if end == start or (end != latest and _parts_from(end, offsets, part_units) > parts_left):
            end = latest
        segments.append(text[start:end])
        start = end
    segments.append(text[start:])
    return tuple(segments)
