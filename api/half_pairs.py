"""Texts that were cut within an emoji: JSON by its grammar, and no text that could be sent."""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from api.field_paths import join_path
from api.problems import FieldError
from shared.domain.fingerprint import JSON_DEPTH_MAX

_Steps: TypeAlias = tuple[str | int, ...]

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def half_pairs(raw: bytes) -> Iterator[FieldError]:
    """The texts with half of a surrogate pair in them: JSON by its grammar, and no text that could be sent.

    Whoever cuts a text by UTF-16 units cuts emoji in two.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return
    for steps, half in _halved({"": document}, JSON_DEPTH_MAX):
        path = ""
        for step in steps:
            if isinstance(step, int):
                path = join_path(path, f"[{step}]")
            elif not _HALF_PAIR.search(step):
                path = join_path(path, step)
        yield FieldError(
            path or "body", f"must hold whole characters: {ascii(half)[1:-1]} is half of a surrogate pair"
        )


def _halved(outer: dict[str, Any] | list[Any], depth: int) -> list[tuple[_Steps, str]]:
    """The halves in a document's names and texts, in order, each behind the steps that lead to its field.

    The steps are put together where one is found; for every value that would take most of the time.
    """
    found: list[tuple[_Steps, str]] = []
    for name, value in outer.items() if isinstance(outer, dict) else enumerate(outer):
        if isinstance(name, str) and not name.isascii() and (half := _HALF_PAIR.search(name)):
            found.append(((), half[0]))
        if isinstance(value, str):
            if not value.isascii() and (half := _HALF_PAIR.search(value)):
                found.append(((name,), half[0]))
        elif value and depth >= 0 and isinstance(value, (dict, list)):
            found += [((name, *steps), half) for steps, half in _halved(value, depth - 1)]
    return found
