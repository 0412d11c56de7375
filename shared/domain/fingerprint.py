"""Whether two requests under one idempotency key are the same request (RULES 10).

The fingerprint is SHA-256 over the canonical JSON of [version, method, route, body]. The caller
drops nothing but a default that is spelled out, so such a request equals one that leaves it away, and the
order of keys and the white space of the client do not matter.

Canonical JSON: UTF-8, keys sorted by code point, no white space. Strings count as given (an NFC and an
NFD spelling are two requests: what is sent and billed may differ), integers as given. **Floats are
refused**: no field of the API is one (amounts are decimal strings), and 1.0 has more than one spelling.
So are lone surrogates, which no JSON text in UTF-8 can hold.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

JSON: TypeAlias = bool | int | str | Sequence["JSON"] | Mapping[str, "JSON"] | None

# Stored beside the fingerprint. A change of the rules below raises it, and a stored fingerprint of
# another version is compared by its own rules or not at all, never across.
FINGERPRINT_VERSION = 1
# The API's deepest body has three levels; the bound keeps a hostile one from ending in RecursionError.
JSON_DEPTH_MAX = 16
# 64 bits, as every integer that is stored. It also bounds the digits that are written out.
_INTEGER_MAX = 2**64 - 1

_encode = msgspec.json.Encoder(order="sorted", enc_hook=dict).encode
_encode_plain = msgspec.json.Encoder().encode
# What needs no second look, and is nearly all that there is.
_PLAIN = frozenset({str, bool, type(None)})


class Plain(msgspec.Struct, frozen=True, gc=False):
    """A body whose fields are strings, booleans, integers of at most 64 bits and None, and so canonical.

    For what is made for each message: nothing of it has to be looked at again, and nothing sorted, since its
    fields stand in the order of their names.
    """


class NotCanonical(ValueError):  # noqa: N818 - named for what happened
    """The value has no canonical JSON: a float, a key that is no string, an integer beyond 64 bits, a
    lone surrogate, another type, or too deep a nesting.
    """


def canonical_json(value: JSON) -> bytes:
    """Return the one spelling of a JSON value.

    Raises:
        NotCanonical: the value is not made of str, int, bool, None, lists, tuples and dicts with string
            keys, to a depth of JSON_DEPTH_MAX.
    """
    _check(value, JSON_DEPTH_MAX)
    return _spelled(value, _encode)


def _spelled(value: object, encode: Callable[[object], bytes]) -> bytes:
    try:
        return encode(value)
    except (OverflowError, UnicodeEncodeError) as error:
        raise NotCanonical(str(error)) from None


def fingerprint(method: str, route: str, body: Mapping[str, JSON] | Plain) -> bytes:
    """Return the 32 bytes that tell requests apart. ``route`` is the template, like "/v1/messages".

    Raises:
        NotCanonical: as ``canonical_json``.
    """
    encode = _encode_plain
    if not isinstance(body, Plain):
        _check(body, JSON_DEPTH_MAX - 1)
        encode = _encode
    return hashlib.sha256(_spelled([FINGERPRINT_VERSION, method, route, body], encode)).digest()


def _check(value: object, depth_left: int) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise NotCanonical("an integer beyond 64 bits")
        return
    if depth_left == 0:
        raise NotCanonical(f"JSON nested deeper than {JSON_DEPTH_MAX} levels")
    for item in _items(value):
        if type(item) not in _PLAIN:
            _check(item, depth_left - 1)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, Mapping):
        raise NotCanonical(f"{type(value).__name__} has no canonical JSON")
    for key in value:
        if not isinstance(key, str):
            raise NotCanonical(f"a key is a string, not {type(key).__name__}")
    return value.values()
