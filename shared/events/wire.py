"""What all events share: JSON by msgspec, a version, and one error for bytes that are no event.

A reader ignores fields that it does not know, so a new field is no new version. ``v`` rises when a
field changes its meaning or goes; a reader refuses a version that it does not know.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

E = TypeVar("E", bound=msgspec.Struct)

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


class MalformedEvent(ValueError):  # noqa: N818 - named for what it is
    """The bytes are no event of this kind and version."""


def decoder(kind: type[E], version: int) -> Callable[[bytes], E]:
    """Return the function that reads events of a kind; it raises MalformedEvent and nothing else."""
    reader = msgspec.json.Decoder(kind)

    def decode(payload: bytes) -> E:
        try:
            event = reader.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedEvent(f"no {kind.__name__}: {error}") from None
        found: int = event.v  # type: ignore[attr-defined]  # every event has its version
        if found != version:
            raise MalformedEvent(f"{kind.__name__} of version {found}; this process reads {version}")
        return event

    return decode
