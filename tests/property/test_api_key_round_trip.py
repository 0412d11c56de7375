import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.domain.api_keys import RANDOM_BYTES, InvalidApiKey, format_api_key, new_api_key, parse_api_key

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
keys = st.builds(new_api_key, st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.booleans())


@given(keys)
def test_every_key_reads_back_as_itself(key):
    assert parse_api_key(format_api_key(key)) == key


@given(keys, st.data())
def test_one_mistyped_character_is_always_noticed(key, data):
    text = format_api_key(key)
    place = data.draw(st.integers(0, len(text) - 1))
    typed = data.draw(st.sampled_from(BASE62 + "_- "))
    assume(typed != text[place])
    with pytest.raises(InvalidApiKey):
        parse_api_key(text[:place] + typed + text[place + 1 :])


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
)
def test_different_randomness_makes_different_secrets(one, other, rest):
    assume(one != other)
    assert new_api_key(one + rest, False).secret != new_api_key(other + rest, False).secret
