"""Patterns of the API's types: what they end with in Python, and in the document."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from api.openapi import document
from api.operations import OPERATIONS
from api.patterns import REAL_END, RIGHT, text_of


def patterns(kind: inspect.Type, seen: set[Any], extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every pattern that a type holds, however deep, and the sentence beside it."""
    if isinstance(kind, inspect.StrType) and kind.pattern is not None:
        yield kind.pattern, extra.get(RIGHT)
    elif isinstance(kind, inspect.Metadata):
        yield from patterns(kind.type, seen, kind.extra or {})
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from patterns(member, seen, {})
    elif isinstance(kind, inspect.ListType):
        yield from patterns(kind.item_type, seen, {})
    elif isinstance(kind, inspect.StructType) and kind.cls not in seen:
        seen.add(kind.cls)
        for field in kind.fields:
            yield from patterns(field.type, seen, {})


@pytest.fixture(scope="module")
def found() -> list[tuple[str, Any]]:
    """Every pattern of a request, with its sentence."""
    seen: set[Any] = set()
    kinds = [
        kind for one in OPERATIONS for kind in (one.body, one.query, one.params) if kind not in (None, bytes)
    ]
    return [pair for kind in kinds for pair in patterns(inspect.type_info(kind), seen, {})]


def test_no_pattern_of_a_request_passes_a_line_feed_at_the_end(found):
    assert len(found) > 10
    assert [pattern for pattern, _ in found if pattern.endswith("$")] == []


def test_every_pattern_of_a_request_has_a_sentence_for_people(found):
    assert [pattern for pattern, right in found if not str(right).startswith("must ")] == []


def test_the_document_shows_patterns_as_every_language_reads_them():
    text = msgspec.json.encode(document(OPERATIONS)).decode()
    assert '"pattern":"^[A-Z]{3}$"' in text
    assert REAL_END.encode("unicode_escape").decode() not in text


@pytest.mark.parametrize("pattern", ["[a-z]+", "^a", "a$"])
def test_a_pattern_says_where_a_text_begins_and_ends(pattern):
    with pytest.raises(ValueError, match="not anchored"):
        text_of(pattern, "must be so")
