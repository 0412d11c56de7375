"""A yardstick that is a server in a process of its own."""

import sys
from collections.abc import Mapping
from pathlib import Path

from bench.command import Command
from embedded.ports import free_port


class Yardstick(Command):
    """A module of this package that takes its port as argument; ready when it listens."""

    def __init__(self, module: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        words = [sys.executable, "-m", f"bench.yardsticks.{module}", self.port]
        super().__init__(module, folder, words, environ=environ, ready=self.port)
