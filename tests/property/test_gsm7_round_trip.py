from hypothesis import given
from hypothesis import strategies as st

from shared.domain.alphabet import (
    DEFAULT_CHARACTERS,
    EXTENSION_CHARACTERS,
    NotSeptets,
    decode_gsm7,
    encode_gsm7,
)

gsm7_texts = st.text(st.sampled_from(sorted(DEFAULT_CHARACTERS | EXTENSION_CHARACTERS)))


@given(gsm7_texts)
def test_decoding_gives_back_what_was_encoded(text):
    septets = encode_gsm7(text)
    assert decode_gsm7(septets) == text
    assert len(septets) == len(text) + sum(character in EXTENSION_CHARACTERS for character in text)
    assert max(septets, default=0) < 128


@given(st.binary())
def test_decoding_answers_or_refuses_and_nothing_else(octets):
    try:
        text = decode_gsm7(octets)
    except NotSeptets:
        return
    assert decode_gsm7(encode_gsm7(text)) == text
