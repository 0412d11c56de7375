"""The Idempotency-Key header, bare or as a Structured Field string (RULES 10).

The IETF draft (draft-ietf-httpapi-idempotency-key-header) asks for a quoted string of RFC 8941, nearly
every client in the field sends the bare key. Both spellings of one key are one key.
"""

import re

KEY_CHARACTERS_MAX = 255
# Both quotes and a backslash before each character: the longest spelling of the longest key.
_HEADER_CHARACTERS_MAX = 2 * KEY_CHARACTERS_MAX + 2

_RIGHT = f"an Idempotency-Key is 1 to {KEY_CHARACTERS_MAX} visible ASCII characters, without spaces"

_VISIBLE_ASCII = re.compile(rf"[!-~]{{1,{KEY_CHARACTERS_MAX}}}")
# RFC 8941, 3.3.3: only the quote and the backslash are escaped, and both always are.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED = re.compile(r'\\(["\\])')


class InvalidIdempotencyKey(ValueError):  # noqa: N818 - named for what happened
    """The Idempotency-Key is not 1 to 255 visible ASCII characters, bare or in double quotes."""


def parse_idempotency_key(header: str) -> str:
    """Return the key that a header value spells.

    A value that begins with a double quote is read as an RFC 8941 string (``\\"`` and ``\\\\`` are its
    escapes; parameters after it are refused), every other as the key itself. White space around the value
    does not count.

    Raises:
        InvalidIdempotencyKey: the key is not 1 to 255 visible ASCII characters; a space is none.
    """
    spelled = header.strip(" \t")
    if len(spelled) > _HEADER_CHARACTERS_MAX:
        raise InvalidIdempotencyKey(f"an Idempotency-Key has at most {KEY_CHARACTERS_MAX} characters")
    # What is no such character is the fault also of a value that is not quoted rightly.
    if not spelled.isascii():
        raise InvalidIdempotencyKey(_RIGHT)
    key = _unquoted(spelled) if spelled.startswith('"') else spelled
    if not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidIdempotencyKey(_RIGHT)
    return key


def _unquoted(spelled: str) -> str:
    match = _QUOTED.fullmatch(spelled)
    if match is None:
        raise InvalidIdempotencyKey(
            'a quoted Idempotency-Key ends with its quote, and holds \\" and \\\\ for a quote and a backslash'
        )
    return _ESCAPED.sub(r"\1", match[1])
