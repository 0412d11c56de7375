"""The seeds that were run, added up in one file: slices of a long run may be hours apart."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.chaos.simulation.seeds import Tally

FILE: Final = Path(__file__).parents[1] / "results" / "simulation.json"
SUMMED: Final = ("calls", "messages", "seconds", "found")
REPOSITORY: Final = Path(__file__).parents[3]


def read() -> dict[str, list[dict[str, Any]]]:
    """The slices that are kept, by what they ran on."""
    if not FILE.exists():
        return {"both": [], "oracle": []}
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return {on: kept[on]["slices"] for on in ("both", "oracle")}


def next_seed(on: str) -> int:
    """The first seed that no slice ran."""
    return 1 + max((each["last_seed"] for each in read()[on]), default=0)


def add(on: str, first: int, tally: Tally) -> None:
    """Keep a slice, with the sums."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    kept = read()
    last = kept[on][-1] if kept[on] else None
    row = {
        "commit": commit,
        "first_seed": first,
        "last_seed": first + tally.seeds - 1,
        "calls": tally.calls,
        "messages": tally.messages,
        "seconds": round(tally.seconds),
        "found": [f"seed {found.seed}: {found.failure.sentence[:300]}" for found in tally.found],
    }
    if last is not None and last["commit"] == commit and last["last_seed"] + 1 == first:
        kept[on][-1] = (
            last | {"last_seed": row["last_seed"]} | {name: last[name] + row[name] for name in SUMMED}
        )
    else:
        kept[on].append(row)
    sums = {
        name: {
            "seeds": sum(each["last_seed"] - each["first_seed"] + 1 for each in slices),
            "calls": sum(each["calls"] for each in slices),
            "messages": sum(each["messages"] for each in slices),
            "found": sum(len(each["found"]) for each in slices),
            "slices": slices,
        }
        for name, slices in kept.items()
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
