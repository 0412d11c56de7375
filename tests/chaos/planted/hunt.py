"""Looks for planted faults: each has to be found within its number of seeds."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from shared.runtime.postgres import Pool
from tests.chaos.planted.plant import Plant, planted_in_oracle, planted_in_sql
from tests.chaos.simulation import lock_order, seeds
from tests.chaos.simulation.oracle.server import OracleServer
from tests.chaos.simulation.run import Failure

RESULTS: Final = Path(__file__).parents[1] / "results" / "planted.json"


def known_seeds() -> dict[str, int]:
    """Where each fault was found when all were looked for: a good place to look first."""
    if not RESULTS.exists():
        return {}
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["faults"]
    return {f"{row['where']} {row['name']}": row["found_at_seed"] for row in rows}


async def found_in_sql(pool: Pool, plant: Plant, order: Iterable[int]) -> seeds.Found | None:
    """The first of the seeds that finds a fault in the database."""
    async with planted_in_sql(pool, plant):
        if out_of_order := await lock_order.faults(pool):
            return seeds.Found(0, Failure("one lock order", "; ".join(out_of_order), ""))
        tally = await seeds.try_seeds(seeds.on_both(pool), order)
    return tally.found[0] if tally.found else None


async def found_in_oracle(plant: Plant, order: Iterable[int]) -> seeds.Found | None:
    """The first of the seeds that finds a fault in the oracle, by the invariants alone."""
    with planted_in_oracle(plant):
        tally = await seeds.try_seeds(OracleServer, order)
    return tally.found[0] if tally.found else None


def likely_first(plant: Plant) -> list[int]:
    """All the plant's seeds, the one that found it before in front."""
    known = known_seeds().get(f"{plant.where} {plant.name}", 1)
    return [known, *(seed for seed in range(1, plant.seeds + 1) if seed != known)]


def keep(row: dict[str, Any]) -> None:
    """Write a line of the results, in place of its older one."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["faults"] if RESULTS.exists() else []
    of_same = ("name", "where")
    rows = [*(each for each in rows if any(each[key] != row[key] for key in of_same)), row]
    found = sum(each["found_at_seed"] is not None for each in rows)
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps({"planted": len(rows), "found": found, "faults": rows}, indent=1)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")


def row_of(plant: Plant, found: seeds.Found | None, started: float) -> dict[str, Any]:
    """A line of the results."""
    return {
        "name": plant.name,
        "where": plant.where,
        "found_at_seed": found.seed if found else None,
        "seeds_max": plant.seeds,
        "found_by": found.failure.name if found else None,
        "seconds": round(time.monotonic() - started, 1),
    }
