"""Requests from the load generator in C, and what became of them."""

import asyncio
import csv
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from bench.figures import percentile
from bench.programs import tools_program
from bench.recordings import COUNTS, Record, read_counts, read_records
from shared.domain.segments import TextTooLong, segment

MESSAGES: Final = Path(__file__).resolve().parent.parent / "tests/data/messages.csv"
MICROSECONDS: Final = 1_000_000
BATCH_MESSAGES: Final = 1_000
# What a batch's body repeats is its numbers and texts; each has a key of its own.
BATCHES: Final = 4
# After the generator's own limit.
GRACE_SECONDS: Final = 10.0
ACCEPTED: Final = 202
_runs = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to ask, and how fast.

    Args:
        port: of the server on this machine; 0: whoever runs the plan says which.
        connections: kept open.
        requests: how many in all; None: as many as ``seconds`` allow.
        rate: requests a second in an open model; 0: each connection asks as soon as it was answered.
        ramp: connections opened a second; 0: all at once.
        think_seconds: how long a connection rests after an answer.
        limit_seconds: the run is given up after that.
    """

    connections: int
    port: int = 0
    requests: int | None = None
    seconds: float = 0.0
    rate: float = 0.0
    ramp: float = 0.0
    think_seconds: float = 0.0
    path: str = "/v1/messages"
    limit_seconds: float = 200.0


@dataclass(frozen=True)
class Outcome:
    """What became of a run's requests."""

    records: Sequence[Record]
    cpu_seconds: float = 0.0  # that the generator itself took

    @cached_property
    def codes(self) -> Mapping[int, int]:
        """How many answers had which status; 0: none came."""
        return Counter(record.code for record in self.records)

    @cached_property
    def accepted(self) -> list[Record]:
        """The requests that were answered with 2xx."""
        return [record for record in self.records if record.code // 100 == 2]

    @cached_property
    def begun_us(self) -> int:
        """When the first request was due."""
        return min(record.from_us for record in self.records)

    @cached_property
    def ended_us(self) -> int:
        """When the last answer was there."""
        return max(record.to_us for record in self.records)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return (self.ended_us - self.begun_us) / MICROSECONDS

    @property
    def rate(self) -> float:
        """Requests accepted a second."""
        return len(self.accepted) / self.seconds

    def after(self, seconds: float) -> "Outcome":
        """Without the requests of the first seconds."""
        begun_us = self.begun_us + seconds * MICROSECONDS
        return Outcome([record for record in self.records if record.from_us >= begun_us], self.cpu_seconds)

    def latency_ms(self, share: float) -> float:
        """The percentile of the answers' times; in an open model from when the request was due."""
        return percentile(self._latencies_us, share) / 1_000

    @property
    def average_ms(self) -> float:
        """The mean of the answers' times."""
        return sum(self._latencies_us) / len(self.records) / 1_000

    @cached_property
    def _latencies_us(self) -> list[int]:
        return sorted(record.to_us - record.from_us for record in self.records)


class Requests:
    """Bodies and keys for the generator, written once into a folder.

    Args:
        folder: for the files of all runs.
        keys: API keys, used in turn.
        messages: bodies of requests, used in turn; None: ``real_messages``.
    """

    def __init__(
        self, folder: Path, keys: Sequence[str], messages: Sequence[Mapping[str, str]] | None = None
    ) -> None:
        self._folder = folder
        self._keys = folder / f"keys-{next(_runs)}"
        self._keys.write_text("\n".join(keys))
        self._singles = folder / "bodies"
        self._batches = folder / "batches"
        messages = messages or real_messages()
        self._singles.write_bytes(b"\n".join(msgspec.json.encode(message) for message in messages))
        batches = [messages[begin * BATCH_MESSAGES :][:BATCH_MESSAGES] for begin in range(BATCHES)]
        self._batches.write_bytes(b"\n".join(msgspec.json.encode({"messages": batch}) for batch in batches))

    async def run(self, plan: Plan, *, in_batches: bool = False) -> Outcome:
        """Send them.

        Raises:
            RuntimeError: some were not answered within the plan's limit.
        """
        name = f"load-{next(_runs)}"
        out = self._folder / name
        bodies = self._batches if in_batches else self._singles
        words = [f"out={out}", f"keys={self._keys}", f"bodies={bodies}", f"prefix={name}", *_words(plan)]
        process = await asyncio.create_subprocess_exec(
            tools_program(), "load", *words, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(plan.limit_seconds + GRACE_SECONDS):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(f"the load generator failed: {said.decode().strip()}")
        return Outcome(read_records(out), read_counts(out.with_suffix(COUNTS)).cpu_us / MICROSECONDS)


def _words(plan: Plan) -> list[str]:
    names = {"limit_seconds": "limit", "think_seconds": "think", "requests": "count"}
    given = {names.get(name, name): value for name, value in dataclasses.asdict(plan).items()}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def real_messages() -> list[dict[str, str]]:
    """The texts and numbers of the tests, all regions and alphabets, but no text over ten segments."""
    with MESSAGES.open(newline="", encoding="utf-8") as file:
        rows = [{"to": row["to"], "text": row["text"]} for row in csv.DictReader(file)]
    return [row for row in rows if _is_short_enough(row["text"])]


def _is_short_enough(text: str) -> bool:
    try:
        segment(text)
    except TextTooLong:
        return False
    return True
