from collections.abc import Mapping
from types import MappingProxyType

import pytest

from shared.domain.fingerprint import (
    FINGERPRINT_VERSION,
    JSON,
    JSON_DEPTH_MAX,
    NotCanonical,
    canonical_json,
    fingerprint,
)

BODY: dict[str, JSON] = {
    "to": "+4915112345678",
    "text": "Grüße",
    "send_at": None,
    "valid_for_seconds": 600,
    "nested": {"b": [1, True], "a": {}},
}


def test_the_spelling_is_the_one_that_was_stored_before():
    """A golden value: if this changes, FINGERPRINT_VERSION must, or replays turn into mismatches."""
    assert FINGERPRINT_VERSION == 1
    assert canonical_json(BODY) == (
        b'{"nested":{"a":{},"b":[1,true]},"send_at":null,"text":"Gr\xc3\xbc\xc3\x9fe",'
        b'"to":"+4915112345678","valid_for_seconds":600}'
    )
    assert fingerprint("POST", "/v1/messages", BODY).hex() == (
        "6b3dbff5c7774b8053aa1451d80a4e4b2d80a7be458951c966f428d9d964c088"
    )


def test_another_method_route_or_body_has_another_fingerprint():
    prints = {
        fingerprint("POST", "/v1/messages", BODY),
        fingerprint("PUT", "/v1/messages", BODY),
        fingerprint("POST", "/v1/messages/batch", BODY),
        fingerprint("POST", "/v1/messages", {**BODY, "valid_for_seconds": 601}),
        fingerprint("POST", "/v1/messages", {**BODY, "valid_for_seconds": "600"}),
        fingerprint("POST", "/v1/messages", {}),
    }
    assert len(prints) == 6
    assert all(len(value) == 32 for value in prints)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (0, None),
        ("", None),
        ([], {}),
        ("1", 1),
        ([1, 2], [2, 1]),
        ("\u00fc", "u\u0308"),
    ],
)
def test_values_that_look_alike_are_different(one, other):
    assert canonical_json(one) != canonical_json(other)


def test_a_tuple_and_a_read_only_mapping_are_a_list_and_an_object():
    assert canonical_json((1, "a")) == canonical_json([1, "a"])
    body: Mapping[str, int] = MappingProxyType({"b": 1, "a": 2})
    assert canonical_json({"x": body}) == b'{"x":{"a":2,"b":1}}'


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {"a": 0.5},
        [[1.5]],
        {1: "a"},
        {None: 1},
        b"a",
        {1, 2},
        object(),
        2**64,
        -(2**64),
        -(2**65),
        "\ud800",
    ],
)
def test_what_has_no_one_spelling_is_refused(value):
    with pytest.raises(NotCanonical):
        canonical_json(value)


def test_an_integer_of_a_megabyte_is_refused_before_it_is_written_out():
    with pytest.raises(NotCanonical):
        canonical_json(1 << 8_000_000)


def test_nesting_has_an_end():
    def nested(depth: int) -> JSON:
        value: JSON = []
        for _ in range(depth - 1):
            value = [value]
        return value

    assert canonical_json(nested(JSON_DEPTH_MAX)) == b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    for depth in (JSON_DEPTH_MAX + 1, 50_000):
        with pytest.raises(NotCanonical, match="deeper"):
            canonical_json(nested(depth))
