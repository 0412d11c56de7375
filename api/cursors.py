"""Cursors of lists: an id, written so that nobody is tempted to read it."""

import base64
from typing import Final
from uuid import UUID

from api.problems import invalid_field

FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)


def cursor_of(id_: UUID) -> str:
    """The cursor that goes on after this id."""
    return base64.urlsafe_b64encode(id_.bytes).decode().rstrip("=")


def read_cursor(text: str, name: str, *, place: str = "query.") -> UUID:
    """Return the id of a cursor, which stood under a name in the query, or at another place.

    Raises:
        Refusal: validation_failed.
    """
    try:
        id_ = UUID(bytes=base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        id_ = LAST_ID
    if id_ == LAST_ID:  # nothing comes after it, so no page ends there
        raise invalid_field(f"{place}{name}", "must be a cursor that a page gave")
    return id_
