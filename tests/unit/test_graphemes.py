from itertools import pairwise

import pytest

from shared.domain.graphemes import is_boundary

FAMILY = "👩\u200d👩\u200d👧\u200d👦"
WHOLE = {
    "CR LF": "\r\n",
    "a letter with a mark": "e\u0301",
    "a letter with three marks": "a\u0328\u0301\u0323",
    "a Devanagari syllable with a vowel sign": "नि",
    "a Devanagari conjunct": "क्षि",
    "a Khmer letter with its subscript": "ក្រ",
    "a Thai letter with vowel and tone": "ที่",
    "a Thai letter with the vowel AM": "กำ",
    "a Tamil letter with a spacing vowel": "நோ",
    "an enclosed digit": "1\ufe0f\u20e3",
    "a heart with its variation selector": "❤\ufe0f",
    "a hand of a skin tone": "👍🏽",
    "a family of four": FAMILY,
    "a heart on fire": "❤\ufe0f\u200d🔥",
    "a runner who runs right": "🏃🏾\u200d♀\ufe0f\u200d➡\ufe0f",
    "a rainbow flag": "🏳\ufe0f\u200d🌈",
    "the flag of Germany": "🇩🇪",
    "the flag of Scotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "a Hangul syllable in jamo": "\u1112\u1161\u11ab",
    "two leading jamo": "\u1100\u1100\u1161",
    "a Hangul syllable with a trailing jamo": "가\u11a8",
    "a closed Hangul syllable with one more jamo": "각\u11a8",
    "a halfwidth katakana with its sound mark": "\uff76\uff9e",
    "a Persian letter with a ZWNJ": "ی\u200c",
}
APART = {
    "two letters": "ab",
    "a mark's letter and the next": "e\u0301e",
    "LF CR": "\n\r",
    "two emoji": "😀😀",
    "an emoji and a letter": "😀a",
    "two families": FAMILY + FAMILY,
    "two flags": "🇩🇪🇫🇷",
    "a flag and half a flag": "🇩🇪🇫",
    "a letter after a ZWJ": "क\u200dक",
    "a Tamil letter with its pulli and the next": "ம்ப",
    "a Devanagari virama at the end of a word": "त् а",
    "two Hangul syllables": "각각",
    "a vowel jamo and a leading one": "\u1161\u1100",
    "a trailing jamo and a vowel": "\u11a8\u1161",
    "a Hangul syllable and a letter": "각а",
    "a control and a mark": "\u2028\u0301",
    "a zero width space": "а\u200bб",
}


def clusters(text: str) -> list[str]:
    cuts = [0, *(index for index in range(1, len(text)) if is_boundary(text, index)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_cluster_has_no_boundary_inside(text):
    assert clusters(text) == [text]
    assert clusters(f"х{text}х") == ["х", text, "х"]


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_what_stands_apart_has_a_boundary_between(text):
    assert len(clusters(text)) > 1


def test_flags_pair_from_the_start_of_their_run():
    assert clusters("🇩🇪🇫🇷🇮") == ["🇩🇪", "🇫🇷", "🇮"]
    assert clusters("a🇩🇪b🇫🇷") == ["a", "🇩🇪", "b", "🇫🇷"]


def test_a_symbol_newer_than_the_unicode_data_joins_its_sequence():
    assert clusters("👩\u200d\U0001faff") == ["👩\u200d\U0001faff"]
