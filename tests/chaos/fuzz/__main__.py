"""Feeds all parsers: python -m tests.chaos.fuzz --number 60000 --seed 1. Results add up by seed."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from tests.chaos.fuzz.run import SLOW_SECONDS, Fed, feed_all

FILE: Final = Path(__file__).parents[1] / "results" / "fuzz.json"


def add(seed: int, fed: dict[str, Fed]) -> None:
    """Keep a seed's counts in place of its older ones, with the sums."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))["seeds"] if FILE.exists() else {}
    kept[str(seed)] = {name: one._asdict() for name, one in fed.items()}
    every: list[dict[str, Any]] = [one for seeds in kept.values() for one in seeds.values()]
    sums = {
        "inputs": sum(one["inputs"] for one in every),
        "taken": sum(one["taken"] for one in every),
        "refused": sum(one["refused"] for one in every),
        "crashes": sum(len(one["crashes"]) for one in every),
        "slowest_seconds": max(one["slowest_seconds"] for one in every),
        "seeds": kept,
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Exit with 1 when a parser crashed or was slow."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz")
    parser.add_argument("--number", type=int, default=60_000, help="inputs for each parser")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    fed = feed_all(asked.seed, asked.number)
    add(asked.seed, fed)
    for name, one in fed.items():
        counts = f"{one.inputs} inputs, {one.taken} taken, {one.refused} refused"
        print(f"{name}: {counts}, at most {one.slowest_seconds} s")
        print("".join(f"  crashed: {crash}\n" for crash in one.crashes), end="")
    is_right = all(not one.crashes and one.slowest_seconds < SLOW_SECONDS for one in fed.values())
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
