"""Patterns of the API's types: what they end with in Python, and in the document."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from api.openapi import document
from api.operations import OPERATIONS
from api.patterns import REAL_END, text_of
from api.schemas import Currency, MessageRequest
from api.violations import refuse_values


def patterns(kind: inspect.Type, seen: set[Any]) -> Iterator[str]:
    """Every pattern that a type holds, however deep."""
    if isinstance(kind, inspect.StrType) and kind.pattern is not None:
        yield kind.pattern
    elif isinstance(kind, inspect.Metadata):
        yield from patterns(kind.type, seen)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from patterns(member, seen)
    elif isinstance(kind, inspect.ListType):
        yield from patterns(kind.item_type, seen)
    elif isinstance(kind, inspect.StructType) and kind.cls not in seen:
        seen.add(kind.cls)
        for field in kind.fields:
            yield from patterns(field.type, seen)


def test_no_pattern_of_a_request_passes_a_line_feed_at_the_end():
    seen: set[Any] = set()
    kinds = [
        kind for one in OPERATIONS for kind in (one.body, one.query, one.params) if kind not in (None, bytes)
    ]
    found = [pattern for kind in kinds for pattern in patterns(inspect.type_info(kind), seen)]
    assert len(found) > 10
    assert [pattern for pattern in found if pattern.endswith("$")] == []


def test_the_document_shows_patterns_as_every_language_reads_them():
    text = msgspec.json.encode(document(OPERATIONS)).decode()
    assert '"pattern":"^[A-Z]{3}$"' in text
    assert REAL_END.encode("unicode_escape").decode() not in text


def test_a_refusal_quotes_the_pattern_as_the_document_has_it():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert("EUR\n", Currency)
    assert REAL_END in str(caught.value).replace("\\\\", "\\")
    values = {"to": "+4915112345678", "text": "x", "max_price": "1\n"}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(values, MessageRequest)
    [error] = refuse_values(caught.value, values, MessageRequest, where="").errors
    assert error.detail == r"must match '^[0-9]{1,12}(\\.[0-9]{1,6})?$'"


@pytest.mark.parametrize("pattern", ["[a-z]+", "^a", "a$"])
def test_a_pattern_says_where_a_text_begins_and_ends(pattern):
    with pytest.raises(ValueError, match="not anchored"):
        text_of(pattern)
