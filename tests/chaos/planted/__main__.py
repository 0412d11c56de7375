"""Looks for planted faults from the first seed on, and writes down where each was found.

python -m tests.chaos.planted            all of them; results go to tests/chaos/results/planted.json
python -m tests.chaos.planted fence      those whose name says so
"""

import asyncio
import json
import sys
import time

from tests.chaos.planted.hunt import found_in_oracle, found_in_sql, keep, row_of
from tests.chaos.planted.in_oracle import IN_ORACLE
from tests.chaos.planted.in_sql import IN_SQL
from tests.chaos.simulation.instance import one_connection, simulated_dsn


async def hunt(dsn: str, words: list[str]) -> bool:
    """True when each was found."""
    missed = 0
    async with one_connection(dsn) as pool:
        for plant in (*IN_ORACLE, *IN_SQL):
            if words and not any(word in plant.name for word in words):
                continue
            started, order = time.monotonic(), range(1, plant.seeds + 1)
            is_oracles = plant in IN_ORACLE
            found = await (found_in_oracle(plant, order) if is_oracles else found_in_sql(pool, plant, order))
            row = row_of(plant, found, started)
            keep(row)
            print(json.dumps(row), flush=True)
            missed += found is None
    return missed == 0


def main() -> None:
    """Exit with 1 when one was not found."""
    with simulated_dsn() as dsn:
        is_found = asyncio.run(hunt(dsn, sys.argv[1:]))
    sys.exit(0 if is_found else 1)


if __name__ == "__main__":
    main()
