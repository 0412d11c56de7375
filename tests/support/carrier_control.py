"""The simulated carrier of an instance: told how to behave, and asked what reached it."""

import json
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from simulator.memory import TAKEN
from tests.support.servers import run_apart


def tell_the_simulator(home: Path, rules: Mapping[str, object]) -> None:
    """Replace its rules."""
    port = json.loads((home / "ports.json").read_text())["simulator"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/rules", data=json.dumps(rules).encode(), method="PUT"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def change_the_carrier(home: Path, columns: Mapping[str, object]) -> None:
    """Change columns of its row, as an operator of the database could."""
    port = json.loads((home / "ports.json").read_text())["postgresql"]
    secret = (home / "postgresql" / "superuser.secret").read_text().strip()
    changes = ", ".join(f"{column} = ${n}" for n, column in enumerate(columns, start=1))

    async def change() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", password=secret, database="tollwire"
        )
        await connection.execute(f"update tollwire.carriers set {changes}", *columns.values())
        await connection.close()

    run_apart(change)


def submits_at_the_carrier(home: Path) -> Counter[str]:
    """How often each message was taken, by the carrier's own log."""
    taken: Counter[str] = Counter()
    whole, _, _being_written = (home / "simulator.jsonl").read_text().rpartition("\n")
    for line in whole.splitlines():
        entry = json.loads(line)
        if entry.get("outcome") == TAKEN:
            taken[entry["id"]] += 1
    return taken
