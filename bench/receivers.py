"""The carrier and the receiver of callbacks: processes in C that cost next to nothing."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Final

from bench.programs import tools_program
from bench.recordings import Counts, Record, read_counts, read_records
from embedded.child import StopStep
from embedded.ports import free_port, is_listening
from embedded.unit import Unit

STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
# A million records are 40 MB.
DUMP_SECONDS: Final = 20.0


class Receiver(Unit):
    """One of the tools that listen, ready when it does."""

    stop_steps = (StopStep(signal.SIGTERM, STOP_SECONDS),)
    start_limit_seconds = 10.0

    def __init__(self, tool: str, folder: Path, words: dict[str, object]) -> None:
        super().__init__(tool, folder / tool)
        self.port = free_port()
        self._tool = tool
        self._out = self.folder / "out"
        self._words = {"port": self.port, "out": self._out, **words}

    def prepare(self) -> None:
        """Compile it when it is not there yet."""
        tools_program()

    def launch(self) -> None:
        """Start the process and return at once."""
        words = [f"{name}={value}" for name, value in self._words.items()]
        self.child.launch([str(tools_program()), self._tool, *words], death_signal=signal.SIGTERM)

    def is_ready(self) -> bool:
        """True when it takes connections."""
        return is_listening(self.port)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> Counts:
        """How far it is."""
        return read_counts(self._out)

    async def records(self) -> list[Record]:
        """Take all that it has seen since it was asked last; its counts begin anew.

        Raises:
            TimeoutError: it does not answer.
        """
        self._out.unlink(missing_ok=True)
        self.child.send(signal.SIGUSR1)
        async with asyncio.timeout(DUMP_SECONDS):
            while not self._out.exists():  # noqa: ASYNC110 - another process gives no event, only its file
                await asyncio.sleep(POLL_SECONDS)
        return read_records(self._out)

    async def reached(self, wanted: int, *, limit_seconds: float, still_seconds: float) -> bool:
        """Wait until it has counted so many; False when nothing came for so long, or in all."""
        now = time.monotonic()
        until, seen, moved_at = now + limit_seconds, -1, now
        while (found := self.counts().count) < wanted:
            now = time.monotonic()
            if found != seen:
                seen, moved_at = found, now
            if now > until or now > moved_at + still_seconds:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True


def sink(folder: Path) -> Receiver:
    """The receiver of callbacks."""
    return Receiver("sink", folder, {})


def carrier(folder: Path, receipts_port: int, **rules: object) -> Receiver:
    """The carrier; ``rules`` are its words: latency, temporary, permanent, receipt_delay."""
    return Receiver("carrier", folder, {"receipts_port": receipts_port, **rules})
