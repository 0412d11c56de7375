"""Inputs that nobody wrote: good ones, damaged by chance. The same seed gives the same inputs."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

BYTES_MAX: Final = 4_096
# What has broken parsers before: numbers at the edges, endless nesting, half characters, other spellings.
# ruff: noqa: E501 - a list of bytes to look through, not to read
TOKENS: Final = (
    b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x87\xa9", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\u0000", b"\\ud800",
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-0", b"1e400", b"1e-400", b"NaN", b"-1", b"0",
    b"9223372036854775808", b"99999999999999999999999999", b"2147483648", b"0.1", b"1_000", b"+", b"%00", b"%", b"&", b"=",
    b";", b"\r\n", b" ", b"\t", b"[" * 600, b'{"a":' * 300, b"A" * 300, b"\xc3\xa4" * 90, b"\xcc\x81" * 40, b"\xe2\x80\x8d",
    b"2026-02-30T25:61:61Z", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"t=1,v1=", b"::1", b"[::", b"@", b"#",
    b"0000000000", b"\xd9\xa1", b"\xe2\x82\xac",
)  # fmt: skip


def inputs(corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end; every twentieth is one of the corpus as it is."""
    rng = random.Random(seed)
    while True:
        text = rng.choice(corpus)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6, 12)) if rng.random() > 0.05 else 0):
            text = _damaged(rng, text, corpus)[:BYTES_MAX]
        yield text


def _damaged(rng: random.Random, text: bytes, corpus: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(text))
    end = min(len(text), start + rng.choice((0, 1, 1, 2, 4, 16, 200)))
    match rng.randrange(7):
        case 0:
            return text[:start] + rng.choice(TOKENS) + text[start:]
        case 1:
            return text[:start] + rng.choice(TOKENS) + text[end:]
        case 2:
            return text[:start] + text[end:]
        case 3:
            return text[:start] + text[start:end] * rng.choice((2, 3, 50)) + text[end:]
        case 4:
            return text[:start] + rng.randbytes(rng.choice((1, 2, 8))) + text[end:]
        case 5:
            other = rng.choice(corpus)
            return text[:start] + other[rng.randint(0, len(other)) :]
        case _:
            flipped = bytes([text[start] ^ 1 << rng.randrange(8)]) if start < len(text) else b""
            return text[:start] + flipped + text[start + 1 :]
