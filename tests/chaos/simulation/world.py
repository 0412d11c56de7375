"""Everything outside the database: processes and what they remember, the stream, carriers, clients.

Each process remembers its work as tasks; a scheduler, who is the program, says whose turn it is. A crash
forgets the tasks of a process. What carriers, endpoints and clients saw stands in logs of their own: the
invariants compare them with what the server says.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from shared.domain.ids import RANDOMNESS_BITS, uuid7_from
from tests.chaos.simulation.program import Choices
from tests.chaos.simulation.wire import CALL_US, SECOND, START_MS, Carrier, Client, Rows, Server, Want, Word

T = TypeVar("T")
PROCESSES: Final = ("worker", "dlr", "ledger", "api")
# How a call of a server function may go: ok; the answer is lost and the same call is made again; given up,
# and carried out later all the same, after it was made again; the answer is lost and the process with it.
FATES: Final = (*["ok"] * 12, "again", "late", "lost")
# A backend that nobody waits for any more is ended by its role's statement_timeout.
LATE_US: Final = 5 * SECOND


class DiedError(Exception):
    """The process died in the middle of its work."""


@dataclass(slots=True)
class Task:
    """What a process has in mind to do next."""

    owner: str
    label: str
    work: Callable[[Choices], Awaitable[None]]
    carrier: int = 0
    payload: list[Any] = field(default_factory=list)


class Bundle(NamedTuple):
    """A message in the stream: which work, for which carrier, since when."""

    carrier: int
    work: list[tuple[UUID, int]]
    published_us: int


class Submit(NamedTuple):
    """A part that reached a carrier, as the carrier's own log has it."""

    carrier: int
    message: UUID
    attempt: int
    part: int
    reference: str
    is_repeated: bool
    at_us: int


@dataclass(slots=True)
class Logs:
    """What the others saw."""

    wants: dict[str, Want] = field(default_factory=dict)
    told_accepted: set[UUID] = field(default_factory=set)
    keys: dict[tuple[int, str, bytes], tuple[UUID, int]] = field(default_factory=dict)
    twice_by_key: list[tuple[UUID, UUID]] = field(default_factory=list)
    claims: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    published: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    submits: list[Submit] = field(default_factory=list)
    said: list[tuple[Submit, str]] = field(default_factory=list)
    heard: dict[tuple[int, str, str], int] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    # Messages of which a carrier lost a part that it made itself.
    lost: set[UUID] = field(default_factory=set)
    posts: list[tuple[UUID, UUID, str, int, str]] = field(default_factory=list)


class World:
    """One run's surroundings."""

    def __init__(
        self,
        server: Server,
        seed: int,
        clients: list[Client],
        carriers: list[Carrier],
        judge: Callable[["World", Rows], None],
    ) -> None:
        self.server = server
        self.clients = {client.account: client for client in clients}
        self.carriers = {carrier.id: carrier for carrier in carriers}
        self.logs = Logs()
        self.tasks: list[Task] = []
        self.stream: list[Bundle] = []
        self.old_bundles: list[Bundle] = []
        self.incarnation = 1
        self.now = 0
        self.rows: Rows = {}
        self.calls = 0
        self._judge = judge
        self._rng = random.Random(seed)
        self._names: dict[UUID, str] = {}
        self.trace: list[tuple[int, str, object]] = []
        # What the carriers remember, and how many references each has given: all count from 1.
        self.remembered: dict[tuple[int, UUID, int], str] = {}
        self.references: Counter[int] = Counter()

    def new_id(self) -> UUID:
        """A UUIDv7 of now."""
        return uuid7_from(START_MS + self.now // 1000, self._rng.getrandbits(RANDOMNESS_BITS))

    def name(self, letter: str) -> UUID:
        """A new id that the trace calls by a letter and a number."""
        made = self.new_id()
        self._names[made] = f"{letter}{sum(n.startswith(letter) for n in self._names.values()) + 1}"
        return made

    def say(self, what: str, detail: object = "") -> None:
        """A line of the trace."""
        self.trace.append((self.now, what, detail))

    def add(
        self, owner: str, label: str, work: Callable[[Choices], Awaitable[None]], carrier: int = 0,
        payload: list[Any] | None = None,
    ) -> None:  # fmt: skip
        """Remember work."""
        self.tasks.append(Task(owner, label, work, carrier, payload or []))

    def crash(self, process: str) -> None:
        """A process forgets everything."""
        self.say(f"{process} crashes", [task.label for task in self.tasks if task.owner == process])
        self.tasks = [task for task in self.tasks if task.owner != process]

    async def make(self, name: str, call: Callable[[Server], Awaitable[T]]) -> T:
        """Make a call now; afterwards everything must be as it may be."""
        self.now += CALL_US
        self.calls += 1
        await self.server.at(self.now)
        answer = await call(self.server)
        self.say(name, answer)
        self.rows = await self.server.snapshot()
        self._judge(self, self.rows)
        return answer

    async def look(self, name: str, call: Callable[[Server], Awaitable[T]]) -> T:
        """Make a call that cannot write: its function is STABLE."""
        self.now += CALL_US
        self.calls += 1
        await self.server.at(self.now)
        answer = await call(self.server)
        self.say(name, answer)
        return answer

    async def call(self, choices: Choices, name: str, call: Callable[[Server], Awaitable[T]]) -> T:
        """Make a call, however it goes."""
        fate = choices.of(FATES)
        until_us = self.now + LATE_US
        if fate == "late":

            async def late(_: Choices) -> None:
                if self.now < until_us:
                    await self.make(f"{name}, late", call)

            self.add("postgres", f"late {name}", late)
        answer = await self.make(name, call)
        if fate == "again":
            answer = await self.make(f"{name}, again", call)
        if fate == "lost":
            raise DiedError
        return answer

    def told(self) -> str:
        """The trace, with names for ids."""
        lines = []
        for at_us, what, detail in self.trace:
            text = f"{at_us / 1_000_000:>14.6f}  {what}: {detail}" if detail != "" else f"{'':>14}  {what}"
            for id_, name in self._names.items():
                text = text.replace(repr(id_), name).replace(str(id_), name)
            lines.append(text)
        return "\n".join(lines)
