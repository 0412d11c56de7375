"""A line every ten seconds that says what a process did: for whoever has logs and no Prometheus.

The line is made of the metrics, so it costs the hot path nothing. A process that did nothing says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from shared.runtime.loops import Stop
from shared.runtime.ticks import until_tick

INTERVAL_SECONDS: Final = 10.0
# Of so many observations all but one in a hundred are below the P99.
P99: Final = 0.99

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A metric under a word of the line. ``by`` splits it by a label; ``without`` leaves series out."""

    word: str
    metric: Counter | Histogram
    by: str | None = None
    without: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Statistics:
    """``run`` is a loop of the process."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        self._watched = watched
        self._before = [_read(one) for one in watched]

    async def run(self, stop: Stop) -> None:
        """Write a line now and again, and one for what is left at the stop."""
        while not await stop.wait(until_tick(INTERVAL_SECONDS)):
            self.tell()
        self.tell()

    def tell(self) -> None:
        """Write what has been done since the last time, if anything."""
        line: dict[str, object] = {}
        for index, one in enumerate(self._watched):
            now, before = _read(one), self._before[index]
            self._before[index] = now
            done = {key: value - before.get(key, 0.0) for key, value in now.items()}
            if any(value > 0 for value in done.values()):
                line |= _shown(one, done)
        if line:
            _log.info("statistics", **line)


def _read(one: Watched) -> dict[str, float]:
    """Counts by label value, of a histogram by upper bound; all in one where nothing splits them."""
    is_histogram = isinstance(one.metric, Histogram)
    suffix = "_bucket" if is_histogram else "_total"
    label = "le" if is_histogram else one.by
    found: dict[str, float] = {}
    for family in one.metric.collect():
        for sample in family.samples:
            if sample.name.endswith(suffix) and not _is_left_out(one, sample.labels):
                key = sample.labels[label] if label else ""
                found[key] = found.get(key, 0.0) + sample.value
    return found


def _is_left_out(one: Watched, labels: Mapping[str, str]) -> bool:
    return any(labels.get(label) in values for label, values in one.without.items())


def _shown(one: Watched, done: Mapping[str, float]) -> dict[str, object]:
    if isinstance(one.metric, Histogram):
        return {f"{one.word}_p99_seconds": _p99(done)}
    if one.by is None:
        return {one.word: int(sum(done.values()))}
    return {one.word: {key: int(value) for key, value in done.items() if value}}


def _p99(done: Mapping[str, float]) -> str:
    """The smallest bound that 99 of 100 stayed within: "<= 0.05"."""
    bounds = sorted(done, key=float)
    total = done[bounds[-1]]
    return "<= " + next(bound for bound in bounds if done[bound] >= P99 * total)
