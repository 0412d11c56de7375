"""The metrics that several services share.

A metric that one service alone has lives in that service. Names start with ``tollwire_``; labels are
bounded sets that we choose (names of batchers, loops, streams), never a client, a number or a text.
"""

import math
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.samples import Exemplar, Sample

# A flush that waits for a disk commit takes 1 to 50 ms; 5 s is where the server's own timeout ends it.
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# A batch of 1 is a lone request, 100 a full bundle, 500 and 1,000 the usual limits of a flush.
SIZE_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
# Work waits from nothing to the hour that research/operations.md asks to see.
AGE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)
# A message is final after seconds when its phone is on, after days when it never is.
DAYS_BUCKETS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200)
# The loop's lag alarms at 20 ms (P99), so that value is an edge.
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

# When a series began: twice as many lines, which nobody asked for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it


class SwiftCounter(Counter):
    """A counter of what comes with each request: the event loop's thread alone raises it, without a lock.

    The library takes a lock and asks four functions; so it does for what one histogram observes.
    """

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Raise it by 0 or more, which the library looks at and this does not."""
        if exemplar is not None:
            super().inc(amount, exemplar)
        else:
            self._value._value += amount  # noqa: SLF001 - what the value's own inc() does, without its lock


class BulkHistogram(Histogram):
    """A histogram that takes many values at the cost of a few, all in the event loop's thread."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe one: without locks, and without a look at each bucket."""
        if exemplar is not None:
            super().observe(amount, exemplar)
        else:
            self._sum._value += amount  # noqa: SLF001 - as in SwiftCounter
            self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1  # noqa: SLF001

    def observe_all(self, amounts: Sequence[float], exemplar: dict[str, str] | None = None) -> None:
        """Observe each of the amounts; the exemplar stands with the greatest."""
        if exemplar is not None:
            greatest = max(amounts)
            bucket = self._buckets[bisect_left(self._upper_bounds, greatest)]
            bucket.set_exemplar(Exemplar(exemplar, greatest, time.time()))
        self._sum.inc(sum(amounts))
        for bucket, count in Tally(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)


class CopiedCounter(Counter):
    """A count that somebody else keeps, as PostgreSQL does of its transactions."""

    def copy(self, count: float | None) -> None:
        """Show the other's count as it stands; None: show nothing, since nobody knows it now."""
        self._value.set(math.nan if count is None else count)

    def _child_samples(self) -> Iterable[Sample]:
        # A sum over processes of which one shows "not a number" is none either.
        return () if math.isnan(self._value.get()) else super()._child_samples()


# Batchers, by the batcher's name.
BATCH_SIZE: Final = Histogram("tollwire_batch_size", "Items in one flush", ["batcher"], buckets=SIZE_BUCKETS)
BATCH_WAIT: Final = Histogram(
    "tollwire_batch_wait_seconds",
    "How long the oldest item of a flush had waited",
    ["batcher"],
    buckets=SECONDS_BUCKETS,
)
BATCH_FLUSH: Final = Histogram(
    "tollwire_batch_flush_seconds",
    "How long a flush took, repeats and halves included",
    ["batcher"],
    buckets=SECONDS_BUCKETS,
)
BATCH_QUEUE: Final = Gauge("tollwire_batch_queue_length", "Items that wait for a flush", ["batcher"])
BATCH_REFUSED: Final = Counter("tollwire_batch_refused_total", "Items refused by a full queue", ["batcher"])
BATCH_ERRORS: Final = Counter(
    "tollwire_batch_errors_total", "Flushes that raised, by what followed", ["batcher", "followed_by"]
)

# Loops and the process.
LOOP_FAILURES: Final = Counter("tollwire_loop_failures_total", "Errors that a loop met", ["loop"])
LOOP_LAG: Final = Histogram(
    "tollwire_event_loop_lag_seconds", "How late the event loop ran a timer", buckets=LAG_BUCKETS
)
BUILD: Final = Gauge(
    "tollwire_build_info", "Always 1; the labels say what runs", ["service", "version", "commit"]
)

# PostgreSQL.
DEADLOCKS: Final = Counter(
    "tollwire_deadlocks_total",
    "Deadlocks and serialization failures; above 0 a function breaks the lock order (RULES 3)",
    ["function"],
)
CALL_SECONDS: Final = Histogram(
    "tollwire_db_call_seconds", "One call of a server function, repeats included", ["function"],
    buckets=SECONDS_BUCKETS,
)  # fmt: skip
CALL_REPEATS: Final = Counter(
    "tollwire_db_call_repeats_total", "Calls sent again after an error", ["function", "sqlstate"]
)
POOL_CONNECTIONS: Final = Gauge("tollwire_db_pool_connections", "Pool connections by state", ["state"])
POOL_WAIT: Final = Histogram(
    "tollwire_db_pool_wait_seconds",
    "How long a call waited for a connection of the pool",
    buckets=SECONDS_BUCKETS,
)

# JetStream.
PUBLISHES: Final = Counter("tollwire_publish_total", "Publishes by result", ["stream", "result"])
PUBLISH_SECONDS: Final = Histogram(
    "tollwire_publish_seconds", "One publish, repeats included", ["stream"], buckets=SECONDS_BUCKETS
)
ACKS: Final = Counter("tollwire_consumer_acks_total", "Answers to messages", ["consumer", "answer"])
REDELIVERED: Final = Counter("tollwire_consumer_redelivered_total", "Messages seen before", ["consumer"])

# A dependency that may be away while we serve.
CONNECTED: Final = Gauge("tollwire_connected", "1 while the dependency answers", ["dependency"])
