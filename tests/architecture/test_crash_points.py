"""The list of crash points and the places in the code are the same (RULES 39)."""

import ast
from collections.abc import Iterator
from pathlib import Path

from shared.runtime.crash_points import CRASH_POINTS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("api", "worker", "dlr", "ledger", "cli", "embedded", "simulator", "shared")


def passed_names() -> Iterator[str]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(func=ast.Name(id="crash_point"), args=[name]):
                        yield ast.literal_eval(name)


def test_each_listed_crash_point_is_a_place_in_the_code_and_each_place_is_listed() -> None:
    assert sorted(passed_names()) == sorted(CRASH_POINTS)
