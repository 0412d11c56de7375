"""The rules of the chart, and the cases that they are tried with."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "tollwire" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = Path(__file__).with_name("alerts.yaml")
# It has no other state: that it fires is its test.
ALWAYS = "TollwireWatchdog"

METRIC = re.compile(r"\b[a-zA-Z_][\w:]*(?=[{\[])|\btollwire[\w:]+")
SUFFIXES = ("_bucket", "_count", "_sum")


class Alert(NamedTuple):
    """One alert, as its file has it."""

    name: str
    expr: str
    severity: str
    annotations: dict[str, str]


class Case(NamedTuple):
    """Series with which an alert fires, its labels then, and series with which it does not."""

    fires: dict[str, str]
    labels: dict[str, str]
    quiet: dict[str, str]
    at: str = "20m"


def rule_files() -> list[Path]:
    return sorted(RULES.glob("*.yaml"))


def rules() -> Iterator[dict[str, Any]]:
    """Every rule of every file."""
    for file in rule_files():
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> list[Alert]:
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for rule in rules()
        if "alert" in rule
    ]


def recordings() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def cases() -> dict[str, Case]:
    found = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    return {name: Case(**case) for name, case in found.items()}


def metrics_in(expression: str) -> set[str]:
    """The names of all series that an expression reads, a histogram's without its suffix."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return {_family(name) for name in METRIC.findall(bare)}


def commands(program: str) -> dict[str, str]:
    """What runbooks let `promtool` or `psql` ask, by the page where it stands and its place there."""
    form = {
        "promtool": r"""^promtool query instant "\$PROM" '(.+)'$""",
        "psql": r"""^psql "\$DSN" -c "(.+)"$""",
    }[program]
    return {
        f"{page.stem} {nth}": asked
        for page in sorted(RUNBOOKS.glob("*.md"))
        for nth, asked in enumerate(re.findall(form, page.read_text(encoding="utf-8"), re.MULTILINE))
    }


def _family(name: str) -> str:
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name
