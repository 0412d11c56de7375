"""Where a value lies in a decoded JSON document: ``"answer.messages.0.id"``.

Carriers put the same facts in different places; their settings name the place by such a path. A part
made of digits is an index when it meets a list, a key when it meets an object.
"""

from collections.abc import Callable

# Deeper than any carrier's answer seen; a longer path is a slip of the operator.
PATH_PARTS_MAX = 16
# No body that we read has a list of a million.
INDEX_DIGITS_MAX = 6


def look_up(document: object, path: str) -> object | None:
    """Return what lies at `path`, or None when nothing is there; the empty path is the document itself."""
    found = document
    for part in path.split(".") if path else ():
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and _is_index(part) and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def reader(path: str) -> Callable[[object], object | None]:
    """Return ``look_up`` of one path, for where it is asked of every message."""
    if "." in path or not path or _is_index(path):
        return lambda document: look_up(document, path)
    return lambda document: document.get(path) if isinstance(document, dict) else None


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= INDEX_DIGITS_MAX


def is_path(text: str) -> bool:
    """Return whether `text` can be a path: parts that are not empty, not too many."""
    parts = text.split(".")
    return len(parts) <= PATH_PARTS_MAX and all(parts)
