"""Senders: what carriers can take, and nothing that only looks like it."""

import pytest

from shared.domain.senders import is_sender


@pytest.mark.parametrize("text", ["ACME", "+4915112345678", "Müller & Ø", "A-1 (x)", "ΔΦ"])
def test_what_the_alphabet_has_can_be_a_sender(text):
    assert is_sender(text)


@pytest.mark.parametrize(
    "text",
    ["\u0430cme", "ａｃｍｅ", "٣٣", "😀", "\u202eacme", "a\u200b", "a\nb", "x\n", "\0", "a\x7f", "\x1b"],
)
def test_look_alikes_and_what_cannot_be_seen_are_none(text):
    assert not is_sender(text)
