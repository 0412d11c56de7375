"""Shows how far long work has come: a walk through the days, or parts that are done."""

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from types import TracebackType
from typing import Self

from cli.output import Output


class WalkScreen:
    """One line on a terminal, gone when it is left; nothing for programs."""

    def __init__(self, output: Output) -> None:
        status = output.notes.status("")
        is_shown = output.notes.is_terminal and not output.as_json
        self._shown: AbstractContextManager[object] = status if is_shown else nullcontext()
        self._update = status.update if is_shown else _quiet

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def tell(self, doing: str, at: datetime) -> None:
        """Show where it is."""
        self._update(f"{doing}: {at:%Y-%m-%d}")

    def count(self, done: int, parts: int) -> None:
        """Show how many parts of the work are done."""
        self._update(f"{done} of {parts}")


def _quiet(_text: str) -> None:
    """Nobody watches."""
