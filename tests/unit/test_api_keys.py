import zlib

import pytest

from shared.domain.api_keys import (
    RANDOM_BYTES,
    SCOPES,
    ApiKey,
    InvalidApiKey,
    format_api_key,
    new_api_key,
    parse_api_key,
)

SOME_BYTES = bytes(range(RANDOM_BYTES))
LIVE = "tw_H6nx0olkKwtL_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0WyHbF"
BCRYPT_BYTES_MAX = 72


def test_a_key_is_written_and_read():
    for is_test, start in ((False, "tw_"), (True, "tw_test_")):
        key = new_api_key(SOME_BYTES, is_test)
        text = format_api_key(key)
        assert text.startswith(f"{start}{key.key_id}_{key.secret}")
        assert parse_api_key(text) == key
        assert key.is_test is is_test


def test_the_text_of_a_key_stays_what_it_was():
    """A golden value: keys that clients hold must be read for ever."""
    assert format_api_key(new_api_key(SOME_BYTES, is_test=False)) == LIVE
    assert len(LIVE) == len("tw_") + 12 + 1 + 43 + 6


def test_the_secret_is_short_enough_for_bcrypt_and_the_checksum_no_part_of_it():
    key = new_api_key(b"\xff" * RANDOM_BYTES, is_test=False)
    assert len(key.secret) == 43 < BCRYPT_BYTES_MAX
    assert int.from_bytes(b"\xff" * 32) < 62**43
    assert key.secret.isascii()
    assert key.secret.isalnum()


def test_the_checksum_is_the_crc_32_of_all_before_it():
    text = LIVE
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value = 0
    for character in text[-6:]:
        value = value * 62 + digits.index(character)
    assert value == zlib.crc32(text[:-6].encode())


def test_no_log_and_no_traceback_shows_a_secret():
    key = new_api_key(SOME_BYTES, is_test=False)
    assert key.secret not in repr(key)
    assert key.key_id in repr(key)
    with pytest.raises(InvalidApiKey) as refusal:
        parse_api_key(LIVE[:-1] + "!")
    assert key.secret not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tw_",
        "tw__",
        "tw_test_",
        LIVE[:-6] + "CHECKS",
        LIVE + "a",
        LIVE[:-1],
        LIVE + "\n",
        " " + LIVE,
        LIVE.upper(),
        LIVE.replace("tw_", "tw_test_", 1),
        LIVE.replace("tw_", "tx_", 1),
        "tw_" + "\u0661" * 12 + LIVE[15:],
        "é" * len(LIVE),
        "a" * 1_000_000,
    ],
)
def test_junk_is_turned_away(text):
    with pytest.raises(InvalidApiKey):
        parse_api_key(text)


@pytest.mark.parametrize("count", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_a_key_takes_all_its_random_bytes(count):
    with pytest.raises(ValueError, match="48 random bytes"):
        new_api_key(bytes(count), is_test=False)


def test_the_scopes_are_those_of_the_api():
    assert SCOPES == ("messages:send", "messages:read", "balance:read", "callbacks:manage", "admin")
    assert ApiKey("a", "b", False) != ApiKey("a", "b", True)
