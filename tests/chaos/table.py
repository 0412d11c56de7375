"""The results as the tables of docs/guarantees.md. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.results import totals


def table_of(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of the tables."""
    sums = totals(runs)
    counts = sums["counts"]
    yield (
        f"{sums['runs']} runs, {sums['kills']} kills, {counts.get('accepted', 0):,} accepted messages, "
        f"{counts.get('doubts', 0):,} requests repeated after a doubt."
    )
    yield ""
    yield "| counted | |"
    yield "|---|---|"
    for kind, count in sums["violations"].items():
        yield f"| {kind.replace('_', ' ')} | {count} |"
    yield ""
    yield "| fault | times | longest time without an accept | backlog gone (99 %) | the last one |"
    yield "|---|---|---|---|---|"
    for name, fault in sums["faults"].items():
        yield (
            f"| {name} | {fault['times']:.0f} | {fault['no_accept_seconds']:.1f} s | "
            f"{fault['backlog_seconds']:.1f} s | {fault['backlog_last_seconds']:.1f} s |"
        )
