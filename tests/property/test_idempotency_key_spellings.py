from hypothesis import assume, given
from hypothesis import strategies as st

from shared.domain.idempotency import InvalidIdempotencyKey, parse_idempotency_key

keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(keys)
def test_both_spellings_of_a_key_are_the_same_key(key):
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_idempotency_key(f'"{escaped}"') == key
    assume(not key.startswith('"'))
    assert parse_idempotency_key(key) == key


@given(st.text(max_size=600))
def test_any_header_is_a_storable_key_or_refused(header):
    try:
        key = parse_idempotency_key(header)
    except InvalidIdempotencyKey:
        return
    assert 1 <= len(key) <= 255
    assert all("!" <= character <= "~" for character in key)
