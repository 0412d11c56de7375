"""The limits of a request are named constants, and the operators' table has each with its value."""

import importlib
import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| `([\w.]+)\.([A-Z_]+)` \| ([\d.]+) \|", re.MULTILINE)
ROWS_MIN = 14


def test_the_table_names_every_limit_with_its_value() -> None:
    rows = ROW.findall(DOCUMENT.read_text("utf-8"))
    assert len(rows) >= ROWS_MIN
    wrong = [
        f"{module}.{name} is {found}, not {value}"
        for module, name, value in rows
        if float(value) != (found := getattr(importlib.import_module(module), name))
    ]
    assert wrong == []
