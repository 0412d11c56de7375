"""The carrier and the receiver of callbacks: processes in C that cost next to nothing."""

import signal
import time
from pathlib import Path
from typing import Final

from bench.command import Command
from bench.programs import tools_program
from bench.recordings import COUNTS, Counts, Record, read_counts, read_records
from bench.waiting import until
from embedded.ports import free_port

# A million records are 40 MB.
DUMP_SECONDS: Final = 20.0


class Receiver(Command):
    """One of the tools that listen, ready when it does."""

    def __init__(self, tool: str, folder: Path, words: dict[str, object]) -> None:
        self.port = free_port()
        self._out = folder / tool / "out"
        given = {"port": self.port, "out": self._out, **words}
        program = [tools_program(), tool, *(f"{name}={value}" for name, value in given.items())]
        super().__init__(tool, folder, program, ready=self.port)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> Counts:
        """How far it is."""
        return read_counts(self._out.with_suffix(COUNTS))

    async def records(self) -> list[Record]:
        """Take all that it has seen since it was asked last; its counts begin anew.

        Raises:
            TimeoutError: it does not answer.
        """
        self._out.unlink(missing_ok=True)
        self.child.send(signal.SIGUSR1)

        async def is_there() -> bool:
            return self._out.exists()

        if not await until(is_there, DUMP_SECONDS):
            raise TimeoutError(f"{self.name} wrote no records")
        return read_records(self._out)

    async def reached(self, wanted: int, *, limit_seconds: float, still_seconds: float) -> bool:
        """Wait until it has counted so many; False when nothing came for so long, or in all."""
        seen, moved_at = -1, time.monotonic()

        async def is_over() -> bool:
            nonlocal seen, moved_at
            count, now = self.counts().count, time.monotonic()
            if count != seen:
                seen, moved_at = count, now
            return count >= wanted or now > moved_at + still_seconds

        await until(is_over, limit_seconds)
        return seen >= wanted


def sink(folder: Path) -> Receiver:
    """The receiver of callbacks."""
    return Receiver("sink", folder, {})


def carrier(folder: Path, receipts_port: int, **rules: object) -> Receiver:
    """The carrier; ``rules`` are its words: latency, temporary, permanent, receipt_delay."""
    return Receiver("carrier", folder, {"receipts_port": receipts_port, **rules})
