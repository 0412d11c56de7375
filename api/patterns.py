"""Texts of a fixed form, such as names and amounts."""

import types
import typing
from typing import Any, Final

from msgspec import Meta

# What ends a pattern in the OpenAPI document, as ECMA-262 has it, and what ends it in Python, where "$" would
# also stand before a line feed at the end of the text.
SHOWN_END: Final = "$"
REAL_END: Final = r"\Z"
# Where a constraint with a pattern keeps the sentence that says the same to people.
RIGHT: Final = "right"


def text_of(pattern: str, right: str, **told: Any) -> Meta:
    """The constraint that a text matches a pattern ``^…$`` whole.

    Args:
        pattern: for programs.
        right: the same for people, who do not read patterns: "must be …".
        told: what Meta takes besides.

    Raises:
        ValueError: the pattern does not say where the text begins and ends.
    """
    if not (pattern.startswith("^") and pattern.endswith(SHOWN_END)):
        raise ValueError(f"{pattern!r} is not anchored at both ends")
    return Meta(pattern=pattern.removesuffix(SHOWN_END) + REAL_END, extra={RIGHT: right}, **told)


def right_of(kind: Any) -> str | None:
    """The sentence of a type's pattern, also where the type is one of several; None: it has none."""
    if typing.get_origin(kind) is typing.Annotated:
        told = (meta.extra for meta in kind.__metadata__ if isinstance(meta, Meta) and meta.pattern)
        own = next((str(extra[RIGHT]) for extra in told if extra and RIGHT in extra), None)
        return own or right_of(typing.get_args(kind)[0])
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        return next(filter(None, map(right_of, typing.get_args(kind))), None)
    return None


def schema_as_shown(schema: Any) -> Any:
    """A JSON schema, or a part of one, with its patterns as ``text_of`` was given them."""
    if isinstance(schema, dict):
        return {
            name: _shown(value) if name == "pattern" and isinstance(value, str) else schema_as_shown(value)
            for name, value in schema.items()
        }
    return [schema_as_shown(part) for part in schema] if isinstance(schema, list) else schema


def _shown(pattern: str) -> str:
    return pattern.removesuffix(REAL_END) + SHOWN_END if pattern.endswith(REAL_END) else pattern
