"""How a field of a document is named: `messages[3].to`."""

from typing import Final

# The length that a quoted name of a field may have in an answer; a hostile one is cut.
FIELD_NAME_MAX: Final = 100


def join_path(path: str, name: str) -> str:
    """The path of what ``name``, a field's name or an index in brackets, leads to from there."""
    if len(name) > FIELD_NAME_MAX:
        name = name[:FIELD_NAME_MAX] + "…"
    return f"{path}.{name}" if path and not name.startswith("[") else path + name
