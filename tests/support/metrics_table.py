"""The table of metrics in docs/operations.md, read from the code: ``python -m tests.support.metrics_table``.

It writes the document anew. Metrics are found where they are made, so that none is forgotten that a
process makes only in a rare case.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- metrics: python -m tests.support.metrics_table -->\n", "<!-- end of metrics -->"
KINDS = ("Counter", "SwiftCounter", "CopiedCounter", "Gauge", "Histogram", "BulkHistogram", "Summary")
# Folder → who shows its metrics, in the order of the way of a message.
PROCESSES = {
    "api": "api",
    "worker": "worker",
    "dlr": "dlr",
    "ledger": "ledger",
    "simulator": "simulator",
    "shared": "every process, as far as it has such a thing",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as its declaration says."""

    folder: str
    name: str
    kind: str
    sentence: str
    labels: tuple[str, ...]


def metrics() -> list[Metric]:
    """Every metric that is declared in a package, by process and name."""
    found = [
        metric
        for folder in PROCESSES
        for path in (ROOT / folder).rglob("*.py")
        for metric in _declared(folder, ast.parse(path.read_text(encoding="utf-8")))
    ]
    places = list(PROCESSES)
    return sorted(found, key=lambda metric: (places.index(metric.folder), metric.name))


def table() -> str:
    """The part of the document between its marks."""
    lines = []
    for folder, group in groupby(metrics(), key=lambda metric: metric.folder):
        lines += ["", f"**{PROCESSES[folder]}**", "", "| metric | labels | |", "|---|---|---|"]
        for metric in group:
            labels = ", ".join(metric.labels)
            kind = " (histogram)" if metric.kind.endswith("Histogram") else ""
            lines.append(f"| `{metric.name}` | {labels} | {metric.sentence}{kind} |")
    return "\n".join([*lines, "", ""])


def written() -> str:
    """The document with the table that is right now."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def _declared(folder: str, tree: ast.AST) -> Iterator[Metric]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in KINDS:
            continue
        match node.args:
            case [ast.Constant(str(name)), ast.Constant(str(sentence)), *rest]:
                labels = tuple(ast.literal_eval(rest[0])) if rest else ()
                yield Metric(folder, name, node.func.id, sentence, labels)


if __name__ == "__main__":
    DOCUMENT.write_text(written(), encoding="utf-8")
