"""The results as the tables of docs/guarantees.md.

python -m tests.chaos table          writes them there, between its two marks
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos.processes import REPOSITORY
from tests.chaos.results import left_out, read, totals
from tests.chaos.run import NEVER_STRUCK

DOCUMENT: Final = REPOSITORY / "docs" / "guarantees.md"
BEGIN: Final = "<!-- chaos: python -m tests.chaos table -->\n"
END: Final = "<!-- end of chaos -->\n"


def written() -> str:
    """The document with the tables of the latest results."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join(table_of(read())) + "\n" + END + after


def table_of(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of the tables."""
    sums = totals(runs)
    counts = sums["counts"]
    yield ""
    yield (
        f"{sums['runs']} runs, {sums['kills']:,} processes killed, {counts.get('accepted', 0):,} messages "
        f"accepted, {counts.get('doubts', 0):,} requests repeated after a doubt; "
        f"{counts.get('sent_twice', 0):,} `at_least_once` messages went out twice, each flagged, and "
        f"{counts.get('ended_unknown_though_taken', 0):,} ended unpaid and unknown though a carrier had them."
    )
    yield ""
    yield "| counted over all runs | |"
    yield "|---|---|"
    for kind, count in sums["violations"].items():
        yield f"| {kind.replace('_', ' ')} | {count} |"
    documented = {name: count for name, count in counts.items() if name.startswith("documented ")}
    for name, count in documented.items():
        kind = name.removeprefix("documented ").replace("_", " ")
        yield f"| after a failover without a synchronous standby, or a restore: {kind} | {count} |"
    yield from _crash_points(sums["faults"])
    yield from _plans(sums["plans"])
    yield from _not_clean(runs)
    yield ""
    yield "| fault | times | longest time without an accept | backlog worked off (99 %) | the last message |"
    yield "|---|---|---|---|---|"
    for name, fault in sums["faults"].items():
        yield f"| {name} | {fault['times']:.0f} | {' | '.join(_seconds(fault))} |"
    yield ""
    yield "Seeds: " + "; ".join(f"{plan} {_ranges(seeds)}" for plan, seeds in sums["seeds"].items()) + "."
    yield ""


def _seconds(fault: Mapping[str, float]) -> Sequence[str]:
    """What a kind of fault cost; in the runs that add kills up nobody waits for backlogs."""
    shown = {
        "no_accept_seconds": "no_accept_seconds",
        "backlog_seconds": "backlog_last_seconds",
        "backlog_last_seconds": "backlog_last_seconds",
    }
    return [f"{fault[name]:.1f} s" if fault[timed] else "not timed" for name, timed in shown.items()]


def _plans(plans: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Each plan, with the worst of its runs."""
    yield ""
    yield (
        "| plan | runs | not clean | longest time without an accept | backlog worked off (99 %) | "
        "the last message | nothing open after the load |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, plan in plans.items():
        costs = " | ".join((*_seconds(plan), f"{plan['settled_seconds']:.0f} s"))
        yield f"| {name} | {plan['runs']:.0f} | {plan['not_clean']:.0f} | {costs} |"


def _not_clean(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was found in which run, or kept it from showing anything."""
    found = [(f"{run['plan']} {run['seed']}", list(_troubles(run))) for run in runs]
    named = [f"- {name}: {', '.join(troubles)}" for name, troubles in found if troubles]
    if named:
        yield from ("", "Not clean:", "", *named)


def _troubles(run: Mapping[str, Any]) -> Iterator[str]:
    yield from _counted(run["violations"])
    yield from (error for error in run["errors"] if not error.endswith(NEVER_STRUCK))
    if missing := left_out(run):
        yield f"{len(missing)} of the plan's faults never struck"


def _counted(violations: Mapping[str, int]) -> Iterator[str]:
    return (f"{kind.replace('_', ' ')} {count}" for kind, count in violations.items())


def _crash_points(faults: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Each named crash point, with how many processes were seen to die of it."""
    yield ""
    yield "| named crash point | processes that died at it |"
    yield "|---|---|"
    for point in CRASH_POINTS:
        yield f"| `{point}` | {faults.get(f'crash at {point}', {'times': 0})['times']:.0f} |"


def _ranges(seeds: Sequence[int]) -> str:
    """Sorted numbers, with runs of them as a span."""
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and spans[-1][1] == seed - 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)
