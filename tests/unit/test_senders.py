"""Senders: what carriers can take, and nothing that only looks like it."""

import pytest

from shared.domain.senders import is_sender


@pytest.mark.parametrize(
    "text",
    ["ACME", "+4915112345678", "Müller & Ø", "A-1 (x)", "ΔΦ", "x" * 11, "[x]", "12345", "€", "~" * 5],
)
def test_what_the_alphabet_has_can_be_a_sender(text):
    assert is_sender(text)


@pytest.mark.parametrize("text", ["A`B", "x" * 12, "x" * 16, "[" * 6, "x" * 10 + "€"])
def test_what_the_ten_octets_of_an_address_cannot_hold_is_none(text):
    assert not is_sender(text)


@pytest.mark.parametrize(("text", "is_number"), [("1" * 15, True), ("+" + "1" * 15, True), ("1" * 16, False)])
def test_a_number_has_fifteen_digits_at_most(text, is_number):
    assert is_sender(text) == is_number


@pytest.mark.parametrize("text", ["+" + "1" * 14 + "x", "1" * 11 + "+", "1" * 12 + "\n", "++1234567890"])
def test_what_is_longer_than_a_name_and_no_number_is_none(text):
    assert not is_sender(text)


@pytest.mark.parametrize(
    "text",
    ["\u0430cme", "ａｃｍｅ", "٣٣", "😀", "\u202eacme", "a\u200b", "a\nb", "x\n", "\0", "a\x7f", "\x1b"],
)
def test_look_alikes_and_what_cannot_be_seen_are_none(text):
    assert not is_sender(text)
