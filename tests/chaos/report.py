"""What is printed of a run. Pure."""

from collections import Counter
from collections.abc import Iterator

from tests.chaos.results import faults_of
from tests.chaos.run import Result

SHOWN_MAX = 20


def lines_of(result: Result) -> Iterator[str]:
    """The lines for a person."""
    told = result.settings
    yield (
        f"seed {told.seed}, plan {told.plan}, {told.copies} of each, {told.rate_per_second:.0f}/s for "
        f"{told.load_seconds:.0f} s: {'nothing found' if result.is_right else 'VIOLATIONS'}"
    )
    counts = ", ".join(f"{name} {count}" for name, count in result.verdict.counts.items())
    yield f"  {result.kills} kills; {counts}; settled {result.settled_seconds:.0f} s after the load's end"
    for name, costs in sorted(faults_of(result).items()):
        if told.hurries:
            yield f"  {name} x{costs['times']:.0f}"
            continue
        yield (
            f"  {name} x{costs['times']:.0f}: no accept for {costs['no_accept_seconds']:.1f} s at most, "
            f"{costs['failed_requests']:.0f} requests repeated; backlog gone after "
            f"{costs['backlog_seconds']:.1f} s (99 %), {costs['backlog_last_seconds']:.1f} s (the last)"
        )
    yield from (f"  ERROR {error}" for error in result.errors)
    kinds = Counter(violation.kind for violation in result.verdict.violations)
    yield from (f"  VIOLATION {kind}: {count}" for kind, count in kinds.most_common())
    for violation in result.verdict.violations[:SHOWN_MAX]:
        yield f"    {violation.kind} {violation.subject}: {violation.sentence}"
