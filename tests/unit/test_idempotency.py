import pytest

from shared.domain.idempotency import KEY_CHARACTERS_MAX, InvalidIdempotencyKey, parse_idempotency_key


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("order-1-otp", "order-1-otp"),
        ('"order-1-otp"', "order-1-otp"),
        ("  order-1-otp\t", "order-1-otp"),
        ('\t"order-1-otp" ', "order-1-otp"),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (r'"a\"b\\c"', r'a"b\c'),
        (r'a"b\c', r'a"b\c'),
        ("k", "k"),
        ("a,b;c=1", "a,b;c=1"),
        ("!~", "!~"),
        ("x" * KEY_CHARACTERS_MAX, "x" * KEY_CHARACTERS_MAX),
        ('"' + '\\"' * KEY_CHARACTERS_MAX + '"', '"' * KEY_CHARACTERS_MAX),
    ],
)
def test_a_bare_and_a_quoted_value_spell_the_key(header, key):
    assert parse_idempotency_key(header) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        "  ",
        '""',
        '"',
        '"a',
        '"a"b"',
        '"a" "b"',
        '"a", "b"',
        '"a";p=1',
        r'"a\b"',
        '"a\\"',
        "a b",
        '"a b"',
        "a, b",
        "a\tb",
        "a\n",
        "a\0b",
        "a\x7f",
        "ключ",
        '"ü"',
        "x" * (KEY_CHARACTERS_MAX + 1),
        '"' + "x" * (KEY_CHARACTERS_MAX + 1) + '"',
        "x" * 1_000_000,
    ],
)
def test_anything_else_is_refused_and_told_what_a_key_is(header):
    with pytest.raises(InvalidIdempotencyKey, match="Idempotency-Key"):
        parse_idempotency_key(header)


@pytest.mark.parametrize("header", ['"ä"', "ä", '"ä', "a b", '"a b"', ""])
def test_a_character_that_no_key_has_is_what_is_told(header):
    with pytest.raises(InvalidIdempotencyKey, match="visible ASCII characters"):
        parse_idempotency_key(header)


@pytest.mark.parametrize("header", ['"a', '"a"b', '"a"b"', r'"a\b"'])
def test_of_characters_that_a_key_may_have_the_quoting_is_told(header):
    with pytest.raises(InvalidIdempotencyKey, match="ends with its quote"):
        parse_idempotency_key(header)
