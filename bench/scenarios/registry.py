"""The list of scenarios: those of `make bench` (a few minutes), and the long ones of `make bench-long`."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.report import Report


@dataclass(frozen=True, slots=True)
class Options:
    """What a run may be told.

    Args:
        rounds: of each figure.
        folder: below which scratch folders are made; None: where a disk is.
        scale: how many of each service.
        stored_messages: how many the growth scenarios store before they measure.
        soak_minutes: how long the soak lasts.
    """

    rounds: int = 3
    folder: Path | None = None
    scale: Mapping[str, int] = field(default_factory=dict)
    stored_messages: int = 5_000_000
    soak_minutes: int = 30


Measure = Callable[[Report, Options], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of them."""

    name: str
    about: str
    is_long: bool
    measure: Measure


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, *, is_long: bool = False) -> Callable[[Measure], Measure]:
    """Put a function into the list; the first line of its docstring says what it measures."""

    def enter(measure: Measure) -> Measure:
        about = (measure.__doc__ or "").partition("\n")[0]
        SCENARIOS[name] = Scenario(name, about, is_long, measure)
        return measure

    return enter
