"""The results of many runs, added up in one file: slices of a long run may be hours apart."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.chaos.plan import PLANS
from tests.chaos.run import Result
from tests.chaos.verdict import KINDS

LATEST: Final = Path(__file__).with_name("results") / "latest.json"
SENTENCES_MAX: Final = 20
# How the costs of a kind of fault are added up: the worst of all runs.
COSTS: Final = ("no_accept_seconds", "failed_requests", "backlog_seconds", "backlog_last_seconds")
PLAN_COSTS: Final = ("no_accept_seconds", "backlog_seconds", "backlog_last_seconds", "settled_seconds")


def row_of(result: Result, commit: str) -> dict[str, Any]:
    """One run, as it is kept."""
    told = result.settings
    violations = Counter(violation.kind for violation in result.verdict.violations)
    return {
        "plan": told.plan,
        "seed": told.seed,
        "copies": told.copies,
        "rate_per_second": told.rate_per_second,
        "load_seconds": told.load_seconds,
        "hurries": told.hurries,
        "commit": commit,
        "kills": result.kills,
        "settled_seconds": round(result.settled_seconds),
        "no_accept_seconds": round(result.no_accept_seconds, 1),
        "counts": dict(result.verdict.counts),
        "violations": dict(violations),
        "sentences": [
            f"{one.kind} {one.subject}: {one.sentence}" for one in result.verdict.violations[:SENTENCES_MAX]
        ],
        "errors": result.errors,
        "faults": faults_of(result),
    }


def faults_of(result: Result) -> dict[str, dict[str, float]]:
    """Each kind of fault: how often, and the worst that it cost."""
    found: dict[str, dict[str, float]] = {}
    for after in result.aftermaths:
        costs = (
            after.refused_seconds,
            after.failed_requests,
            after.backlog_seconds,
            after.backlog_last_seconds,
        )
        kind = found.setdefault(after.name, {"times": 0, **dict.fromkeys(COSTS, 0.0)})
        kind["times"] += 1
        for name, cost in zip(COSTS, costs, strict=True):
            kind[name] = max(kind[name], round(cost, 1))
    return found


def read(path: Path = LATEST) -> list[dict[str, Any]]:
    """The runs that are kept."""
    return list(json.loads(path.read_text())["runs"]) if path.exists() else []


def write(runs: Sequence[Mapping[str, Any]], path: Path = LATEST) -> None:
    """Keep runs, with their sums."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"totals": totals(runs), "runs": list(runs)}, indent=1) + "\n")


def added(runs: Iterable[Mapping[str, Any]], row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs with one more; the same seed of the same plan takes the place of its earlier run."""
    same = ("plan", "seed", "copies")
    return [*(run for run in runs if any(run[name] != row[name] for name in same)), row]


def totals(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums over runs; every kind of violation is named, also those that nobody found."""
    counts: Counter[str] = Counter()
    violations: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for run in runs:
        counts.update(run["counts"])
        violations.update(run["violations"])
    return {
        "runs": len(runs),
        "kills": sum(run["kills"] for run in runs),
        "errors": sum(len(run["errors"]) for run in runs),
        "counts": dict(counts),
        "violations": dict(violations),
        "faults": fault_totals(runs),
        "plans": plan_totals(runs),
        "seeds": {plan: sorted({run["seed"] for run in runs if run["plan"] == plan})
                  for plan in sorted({run["plan"] for run in runs})},
    }  # fmt: skip


def fault_totals(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Each kind of fault over all runs."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        for name, costs in run["faults"].items():
            kind = found.setdefault(name, {"times": 0, **dict.fromkeys(COSTS, 0.0)})
            kind["times"] += costs["times"]
            for cost in COSTS:
                kind[cost] = max(kind[cost], costs[cost])
    return dict(sorted(found.items()))


def left_out(run: Mapping[str, Any]) -> list[str]:
    """What the run's plan must strike and the run did not, also in runs of before that was asked for."""
    plan = PLANS.get(run["plan"])
    return [name for name in plan.must_strike if name not in run["faults"]] if plan is not None else []


def plan_totals(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The worst that each plan cost: the longest time without an accept, and until a backlog was gone."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        plan = found.setdefault(run["plan"], {"runs": 0, "not_clean": 0, **dict.fromkeys(PLAN_COSTS, 0.0)})
        plan["runs"] += 1
        plan["not_clean"] += bool(run["errors"] or run["violations"] or left_out(run))
        # Runs of before kept it for each fault only.
        worst = {cost: max((one[cost] for one in run["faults"].values()), default=0.0) for cost in COSTS}
        costs = worst | {name: run[name] for name in PLAN_COSTS if name in run}
        for cost in PLAN_COSTS:
            plan[cost] = max(plan[cost], costs[cost])
    return dict(sorted(found.items()))
