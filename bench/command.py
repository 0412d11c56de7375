"""A program with its words as a unit: started, found ready, stopped, never left behind."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from embedded.child import StopStep
from embedded.ports import is_listening
from embedded.unit import Unit

STOP_SECONDS: Final = 10.0
ROOT: Final = Path(__file__).resolve().parent.parent


class Command(Unit):
    """One process.

    Args:
        name: of its folder and its log.
        folder: under which its own folder is made.
        words: the program and its arguments.
        environ: what it finds in its environment besides ours.
        ready: a port that it then listens on, or a question; None: it is ready as soon as it runs.
        at: the folder that it runs in; else the repository.
    """

    stop_steps = (StopStep(signal.SIGTERM, STOP_SECONDS),)
    start_limit_seconds = 30.0

    def __init__(
        self,
        name: str,
        folder: Path,
        words: Sequence[object],
        *,
        environ: Mapping[str, str] | None = None,
        ready: int | Callable[[], bool] | None = None,
        at: Path = ROOT,
    ) -> None:
        super().__init__(name, folder / name)
        self._words = [str(word) for word in words]
        self._environ = {**os.environ, **(environ or {})}
        self._ready = ready
        self._at = at

    def prepare(self) -> None:
        """Nothing is kept on disk."""

    def launch(self) -> None:
        """Start the process and return at once."""
        self.child.launch(
            self._words, death_signal=signal.SIGTERM, environ=self._environ, folder=str(self._at)
        )

    def is_ready(self) -> bool:
        """True when it takes connections, or answers that it is."""
        if isinstance(self._ready, int):
            return is_listening(self._ready)
        return self._ready is None or self._ready()
