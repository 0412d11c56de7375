"""Texts of a fixed form, such as names and amounts."""

from typing import Any, Final

from msgspec import Meta

# What ends a pattern in the OpenAPI document, as ECMA-262 has it, and what ends it in Python, where "$" would
# also stand before a line feed at the end of the text.
SHOWN_END: Final = "$"
REAL_END: Final = r"\Z"


def text_of(pattern: str, **told: Any) -> Meta:
    """The constraint that a text matches a pattern ``^…$`` whole; ``told`` is what Meta takes besides.

    Raises:
        ValueError: the pattern does not say where the text begins and ends.
    """
    if not (pattern.startswith("^") and pattern.endswith(SHOWN_END)):
        raise ValueError(f"{pattern!r} is not anchored at both ends")
    return Meta(pattern=pattern.removesuffix(SHOWN_END) + REAL_END, **told)


def schema_as_shown(schema: Any) -> Any:
    """A JSON schema, or a part of one, with its patterns as ``text_of`` was given them."""
    if isinstance(schema, dict):
        return {
            name: _shown(value) if name == "pattern" and isinstance(value, str) else schema_as_shown(value)
            for name, value in schema.items()
        }
    return [schema_as_shown(part) for part in schema] if isinstance(schema, list) else schema


def words_as_shown(words: str) -> str:
    """msgspec's words, which quote a pattern of ``text_of``, with the pattern as the document has it."""
    return words.replace(repr(REAL_END)[1:], SHOWN_END + "'")


def _shown(pattern: str) -> str:
    return pattern.removesuffix(REAL_END) + SHOWN_END if pattern.endswith(REAL_END) else pattern
