"""API keys: ``tw_<id>_<secret><checksum>``, and ``tw_test_…`` for keys that never leave the simulator.

- id: 12 base62 characters; it finds the row and may be logged.
- secret: 43 base62 characters, 256 bits. bcrypt (RULES 31) is fed this part alone: 43 bytes, well below
  the 72 at which bcrypt 5 raises.
- checksum: CRC-32 of all that stands before it, in 6 base62 characters. It is no secret and protects from
  nothing but typing errors; it lets ``parse_api_key`` turn away junk before a look-up or a hash, and lets
  a scanner of leaked secrets tell a key from noise.
"""

import re
import zlib
from dataclasses import dataclass, field

SCOPES = ("messages:send", "messages:read", "balance:read", "callbacks:manage", "admin")

KEY_ID_CHARACTERS = 12
SECRET_CHARACTERS = 43
CHECKSUM_CHARACTERS = 6
_SECRET_BYTES = 32
# 128 bits for an id of 71: what is left of the division is as good as even.
_KEY_ID_BYTES = 16
RANDOM_BYTES = _SECRET_BYTES + _KEY_ID_BYTES

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(
    rf"(tw_(test_)?([0-9A-Za-z]{{{KEY_ID_CHARACTERS}}})_([0-9A-Za-z]{{{SECRET_CHARACTERS}}}))"
    rf"([0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})"
)


class InvalidApiKey(ValueError):  # noqa: N818 - named for what happened
    """The text is no API key of ours: another form, or a character mistyped."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key in its parts. The secret shows in no repr, so in no log and no traceback."""

    key_id: str
    secret: str = field(repr=False)
    is_test: bool


def new_api_key(random_bytes: bytes, is_test: bool) -> ApiKey:
    """Return the key that RANDOM_BYTES (48) random bytes stand for; equal bytes give an equal key.

    Raises:
        ValueError: another number of bytes.
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes, not {len(random_bytes)}")
    secret = int.from_bytes(random_bytes[:_SECRET_BYTES])
    key_id = int.from_bytes(random_bytes[_SECRET_BYTES:]) % len(_BASE62) ** KEY_ID_CHARACTERS
    return ApiKey(_base62(key_id, KEY_ID_CHARACTERS), _base62(secret, SECRET_CHARACTERS), is_test)


def format_api_key(key: ApiKey) -> str:
    """Return the text of a key, as a client sends it. It is shown once and never stored."""
    body = f"tw_{'test_' if key.is_test else ''}{key.key_id}_{key.secret}"
    return body + _checksum(body)


def parse_api_key(text: str) -> ApiKey:
    """Return the parts of a key, whose form and checksum are right; whether it is known is not asked.

    Raises:
        InvalidApiKey: anything else. The message repeats nothing of the text.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise InvalidApiKey("an API key looks like tw_<id>_<secret>")
    body, test, key_id, secret, checksum = match.groups()
    if checksum != _checksum(body):
        raise InvalidApiKey("the API key is mistyped: its checksum is wrong")
    return ApiKey(key_id, secret, test is not None)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
