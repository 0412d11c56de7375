"""The line every ten seconds: what was done since the last one, and silence while nothing is."""

from typing import Any

import structlog.testing
from prometheus_client import CollectorRegistry, Counter, Histogram

from shared.runtime.loops import Stop
from shared.runtime.statistics import Statistics, Watched


class Shop:
    """Metrics of a made-up process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.sales = Counter("sales_total", "…", ["kind", "hall"], registry=registry)
        self.waits = Histogram("wait_seconds", "…", buckets=(0.1, 1.0), registry=registry)
        self.statistics = Statistics(
            [
                Watched("sales", self.sales, by="kind", without={"hall": frozenset({"test"})}),
                Watched("sold", self.sales),
                Watched("wait", self.waits),
            ]
        )

    def tell(self) -> list[Any]:
        with structlog.testing.capture_logs() as lines:
            self.statistics.tell()
        return lines


def test_it_tells_what_was_done_since_the_last_line() -> None:
    shop = Shop()
    shop.sales.labels("tea", "a").inc(3)
    shop.sales.labels("tea", "b").inc()
    shop.sales.labels("milk", "test").inc()
    for _ in range(99):
        shop.waits.observe(0.05)
    shop.waits.observe(0.5)
    (first,) = shop.tell()
    assert first == {
        "event": "statistics", "log_level": "info", "sales": {"tea": 4}, "sold": 5,
        "wait_p99_seconds": "<= 0.1",
    }  # fmt: skip
    shop.sales.labels("milk", "a").inc()
    shop.waits.observe(7.0)
    (second,) = shop.tell()
    assert (second["sales"], second["sold"], second["wait_p99_seconds"]) == ({"milk": 1}, 1, "<= +Inf")


def test_an_idle_process_says_nothing() -> None:
    shop = Shop()
    assert shop.tell() == []
    shop.sales.labels("milk", "a").inc()
    assert len(shop.tell()) == 1
    assert shop.tell() == []


async def test_the_stop_brings_the_last_line() -> None:
    shop, stop = Shop(), Stop()
    stop.request("test")
    shop.sales.labels("milk", "a").inc()
    with structlog.testing.capture_logs() as lines:
        await shop.statistics.run(stop)
    assert [line["event"] for line in lines] == ["statistics"]
