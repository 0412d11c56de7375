"""A yardstick that is a server in a process of its own."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedded.child import StopStep
from embedded.ports import free_port, is_listening
from embedded.unit import Unit

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_SECONDS: Final = 10.0


class Yardstick(Unit):
    """A module of this package that takes its port as argument; ready when it listens."""

    stop_steps = (StopStep(signal.SIGTERM, STOP_SECONDS),)
    start_limit_seconds = 30.0

    def __init__(self, module: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(module, folder / module)
        self.port = free_port()
        self._environ = {**os.environ, **(environ or {})}

    def prepare(self) -> None:
        """Nothing is kept on disk."""

    def launch(self) -> None:
        """Start the process and return at once."""
        command = [sys.executable, "-m", f"bench.yardsticks.{self.name}", str(self.port)]
        self.child.launch(command, death_signal=signal.SIGTERM, environ=self._environ, folder=str(ROOT))

    def is_ready(self) -> bool:
        """True when it takes connections."""
        return is_listening(self.port)
