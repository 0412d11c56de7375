"""The partitions of the days to come (RULES 28): made beside the traffic, a week before they are needed."""

from datetime import timedelta
from typing import Final

from ledger import clockwork_store as store
from shared.runtime.postgres import Pool

DAYS_AHEAD: Final = 7


async def make_days(pool: Pool) -> int:
    """Make the partitions that are missing from yesterday's to the last of the week; return how many.

    The days are the database's. Each has a call of its own, today's the first: after a long stop all of them
    are missing, and everything waits for today's.

    Raises:
        OutcomeUnknown: the database did not answer; the days that were made stay.
    """
    today = (await store.read_time(pool)).date()
    made = 0
    for ahead in (*range(DAYS_AHEAD + 1), -1):
        day = today + timedelta(days=ahead)
        made += await store.make_partitions(pool, day, day)
    return made
