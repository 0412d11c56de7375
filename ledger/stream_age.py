"""How old the oldest work is that the stream still has: what was leased before it is not there any more."""

from datetime import datetime, timedelta
from typing import Final

from ledger import clockwork_store as store
from shared.runtime.jetstream import JetStream
from shared.runtime.postgres import Pool

LANES: Final = ("express", "normal", "bulk")


async def oldest_in_stream(pool: Pool, jetstream: JetStream) -> list[datetime | None]:
    """Return when the oldest message came that is still there, for each of ``LANES``; None: there is none.

    By the database's clock, as leases are: NATS stamps its messages by its own, which may be another.

    Raises:
        JetStreamDown: no answer.
    """
    # In this order: the time between the two answers makes work older, and nothing look lost that is there.
    now = await store.read_time(pool)
    now_there_ms = await jetstream.now_ms("SMS_SEND")
    oldest = [await jetstream.oldest_ms(f"sms.send.{lane}") for lane in LANES]
    return [None if ms is None else now - timedelta(milliseconds=now_there_ms - ms) for ms in oldest]
