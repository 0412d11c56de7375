"""What goes over the wire between a gateway and the simulated carrier. docs/simulator.md shows it."""

from typing import Annotated

import msgspec
from msgspec import Meta

# As many as a gateway's bulk of 1,000 with the longest texts, and some air.
BODY_MAX_BYTES = 4 * 2**20
BULK_MAX = 1_000
TEXT_MAX_CHARS = 10_000

Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Submit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message or one part of it. `id` is the gateway's; the same id and part again is a repetition."""

    id: Id
    to: Annotated[str, Meta(pattern=r"^\+[0-9]{5,15}$")]
    text: Annotated[str, Meta(max_length=TEXT_MAX_CHARS)]
    sender: Annotated[str, Meta(max_length=32)] = msgspec.field(name="from", default="")
    attempt: Annotated[int, Meta(ge=1, le=32_767)] = 1
    part: Annotated[int, Meta(ge=1, le=255)] = 1
    encoding: Annotated[str, Meta(max_length=16)] = ""
    segments: Annotated[int, Meta(ge=1, le=255)] = 1
    validity: int | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a submit. `id` and `attempt` echo the submit's, unless the rules say not to."""

    reference: str
    state: str
    done_at: str
    to: str
    part: int
    error: str | None = None
    id: str | None = None
    attempt: int | None = None


class ReceiptPost(msgspec.Struct, frozen=True):
    """The body of one POST of receipts."""

    receipts: list[Receipt]
