import pytest

from shared.domain.alphabet import (
    DEFAULT_CHARACTERS,
    EXTENSION_CHARACTERS,
    NotInAlphabet,
    NotSeptets,
    decode_gsm7,
    encode_gsm7,
)

# 3GPP TS 23.038, 6.2.1, by code point, typed from the table and apart from the module's strings.
DEFAULT_CODE_POINTS = {
    **{code: code for code in (0x0A, 0x0D, *range(0x20, 0x24), *range(0x25, 0x40))},
    **{code: code for code in (*range(0x41, 0x5B), *range(0x61, 0x7B))},
    0x00: 0x40, 0x01: 0xA3, 0x02: 0x24, 0x03: 0xA5, 0x04: 0xE8, 0x05: 0xE9, 0x06: 0xF9, 0x07: 0xEC,
    0x08: 0xF2, 0x09: 0xC7, 0x0B: 0xD8, 0x0C: 0xF8, 0x0E: 0xC5, 0x0F: 0xE5, 0x10: 0x394, 0x11: 0x5F,
    0x12: 0x3A6, 0x13: 0x393, 0x14: 0x39B, 0x15: 0x3A9, 0x16: 0x3A0, 0x17: 0x3A8, 0x18: 0x3A3, 0x19: 0x398,
    0x1A: 0x39E, 0x1C: 0xC6, 0x1D: 0xE6, 0x1E: 0xDF, 0x1F: 0xC9, 0x24: 0xA4, 0x40: 0xA1, 0x5B: 0xC4,
    0x5C: 0xD6, 0x5D: 0xD1, 0x5E: 0xDC, 0x5F: 0xA7, 0x60: 0xBF, 0x7B: 0xE4, 0x7C: 0xF6, 0x7D: 0xF1,
    0x7E: 0xFC, 0x7F: 0xE0,
}  # fmt: skip
EXTENSION_CODE_POINTS = {
    0x0A: 0x0C, 0x14: 0x5E, 0x28: 0x7B, 0x29: 0x7D, 0x2F: 0x5C, 0x3C: 0x5B, 0x3D: 0x7E, 0x3E: 0x5D,
    0x40: 0x7C, 0x65: 0x20AC,
}  # fmt: skip


def test_the_tables_have_every_place_of_the_standard():
    assert sorted(DEFAULT_CODE_POINTS) == [code for code in range(128) if code != 0x1B]
    assert {ord(character) for character in DEFAULT_CHARACTERS} == set(DEFAULT_CODE_POINTS.values())
    assert {ord(character) for character in EXTENSION_CHARACTERS} == set(EXTENSION_CODE_POINTS.values())


@pytest.mark.parametrize(("septet", "code_point"), sorted(DEFAULT_CODE_POINTS.items()))
def test_a_character_of_the_default_alphabet_is_one_septet(septet, code_point):
    assert encode_gsm7(chr(code_point)) == bytes([septet])
    assert decode_gsm7(bytes([septet])) == chr(code_point)


@pytest.mark.parametrize(("septet", "code_point"), sorted(EXTENSION_CODE_POINTS.items()))
def test_a_character_of_the_extension_is_an_escape_and_a_septet(septet, code_point):
    assert encode_gsm7(chr(code_point)) == bytes([0x1B, septet])
    assert decode_gsm7(bytes([0x1B, septet])) == chr(code_point)


def test_every_other_code_point_is_in_no_table():
    known = set(DEFAULT_CODE_POINTS.values()) | set(EXTENSION_CODE_POINTS.values())
    encodable = set()
    for code_point in range(0x11_0000):
        try:
            encode_gsm7(chr(code_point))
        except NotInAlphabet:
            continue
        encodable.add(code_point)
    assert encodable == known


@pytest.mark.parametrize("text", ["ç", "`", "\x1b", "\0", "Ω\u0301", "й", "😀"])
def test_the_character_that_needs_ucs2_is_named(text):
    with pytest.raises(NotInAlphabet, match=r"U\+[0-9A-F]{4}"):
        encode_gsm7("abc" + text)


def test_an_unknown_escape_shows_the_default_character_as_the_standard_asks():
    assert decode_gsm7(b"\x1ba\x1b\x1b") == "a "


@pytest.mark.parametrize("septets", [b"\x80", b"a\xff", b"\x1b\x80", b"abc\x1b"])
def test_bytes_that_are_no_septets_are_refused(septets):
    with pytest.raises(NotSeptets):
        decode_gsm7(septets)
