"""What the simulated carrier remembers: each message's submits, the latest log lines, and counts. Bounded."""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

import msgspec

from simulator.outcomes import FULL, RATE_LIMITED
from simulator.wire import Receipt

# Messages remembered by id: a minute at 3,000/s, about 60 MB. The oldest is forgotten first; the file of
# TOLLWIRE_SIMULATOR_LOG forgets none.
MESSAGES_MAX = 200_000
# Lines of GET /log, with their texts.
LOG_LINES_MAX = 20_000

# What became of a submit, beside the codes of refusals: taken; taken before and not sent again; not taken
# and not answered.
TAKEN = "taken"
REPEATED = "repeated"
LOST = "lost"


class Due(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A receipt that waits for its time, in seconds since the epoch. `n` is unique and keeps the order."""

    due: float
    n: int
    receipt: Receipt


class LogLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One submit as it reached the carrier.

    `outcome` is TAKEN, REPEATED, LOST or the code of the refusal. `count` says how many submits of this id
    and part there have been, this one included. The text stays in memory; the file has its length and hash.
    """

    n: int
    at: float
    id: str
    part: int
    attempt: int
    to: str
    sender: str = msgspec.field(name="from")
    segments: int
    chars: int
    sha256: str
    outcome: str
    count: int
    reference: str | None = None
    receipts: list[Due] = []
    text: str | None = None


@dataclass(slots=True)
class Seen:
    """The submits of one message or part."""

    submits: int = 0
    failed: int = 0
    taken: int = 0
    reference: str | None = None


@dataclass
class Memory:
    """Everything that POST /reset forgets."""

    messages_max: int = MESSAGES_MAX
    seen: OrderedDict[tuple[str, int], Seen] = field(default_factory=OrderedDict)
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES_MAX))
    counts: Counter[str] = field(default_factory=Counter)
    taken_again: int = 0  # messages or parts that were taken more than once
    line_no: int = 0
    receipt_no: int = 0

    def of(self, message_id: str, part: int) -> Seen:
        """Return what is known of a message or part; it counts as the latest."""
        key = (message_id, part)
        found = self.seen.get(key)
        if found is None:
            found = self.seen[key] = Seen()
            if len(self.seen) > self.messages_max:
                self.seen.popitem(last=False)
        else:
            self.seen.move_to_end(key)
        return found

    def took(self, seen: Seen, reference: str) -> None:
        """Remember that it was taken, under this reference."""
        seen.taken += 1
        seen.reference = reference
        self.taken_again += seen.taken == 2

    def note(self, line: LogLine) -> None:
        """Count a submit and keep its line."""
        self.counts["submits"] += 1
        self.counts[line.outcome] += 1
        self.log.append(line)

    def learn(self, line: LogLine) -> None:
        """Take in a line of the file that a process before this one wrote."""
        seen = self.of(line.id, line.part)
        seen.submits = line.count
        if line.outcome == TAKEN and line.reference is not None:
            self.took(seen, line.reference)
        elif line.outcome not in (REPEATED, LOST, RATE_LIMITED.code, FULL.code):
            seen.failed += 1
        self.line_no = max(self.line_no, line.n)
        self.receipt_no = max([self.receipt_no, *(due.n for due in line.receipts)])
        self.note(line)
