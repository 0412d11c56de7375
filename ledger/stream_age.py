"""How old the oldest work is that the stream still has: what was leased before it is not there any more."""

from datetime import UTC, datetime
from typing import Final

from shared.runtime.jetstream import JetStream

LANES: Final = ("express", "normal", "bulk")


async def oldest_in_stream(jetstream: JetStream) -> list[datetime | None]:
    """Return when the oldest message came that is still there, for each of ``LANES``; None: there is none.

    Raises:
        JetStreamDown: no answer.
    """
    return [_moment(await jetstream.oldest_ms(f"sms.send.{lane}")) for lane in LANES]


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds is not None else None
