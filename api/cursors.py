"""Cursors of lists: an id, or another place, written so that nobody is tempted to read it."""

import base64
import re
from typing import Final
from uuid import UUID

from api.problems import Refusal, invalid_field

FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)


def cursor_of(id_: UUID) -> str:
    """The cursor that goes on after this id."""
    return _packed(id_.bytes)


def cursor_after(*place: object) -> str:
    """The cursor that goes on after a place, whose parts are of ASCII and hold no dot."""
    return _packed(".".join(str(part) for part in place).encode("ascii"))


def read_cursor(text: str, name: str, *, place: str = "query.") -> UUID:
    """Return the id of a cursor, which stood under a name in the query, or at another place.

    Raises:
        Refusal: validation_failed.
    """
    try:
        id_ = UUID(bytes=_unpacked(text))
    except ValueError:
        id_ = LAST_ID
    if id_ == LAST_ID:  # nothing comes after it, so no page ends there
        raise _no_cursor(f"{place}{name}")
    return id_


def read_place(text: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Return the parts of the place of ``query.cursor``: the groups of a pattern with the dots between.

    Raises:
        Refusal: validation_failed.
    """
    try:
        found = pattern.fullmatch(_unpacked(text).decode("ascii"))
    except ValueError:
        found = None
    if found is None:
        raise _no_cursor("query.cursor")
    return found.groups()


def _packed(place: bytes) -> str:
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _no_cursor(field: str) -> Refusal:
    return invalid_field(field, "must be a cursor that a page gave")
