"""The simulated carrier's heart: a submit comes in, and out comes what to answer and which receipts are owed.

No sockets here, and no waiting: the handlers do both.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from simulator.journal import Acked, Journal
from simulator.memory import LOST, REPEATED, TAKEN, Due, LogLine, Memory, Seen
from simulator.outcomes import FULL, RATE_LIMITED, Failure, Fault, Script, Step
from simulator.rules import Rules, choose
from simulator.wire import Receipt, Submit


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer to one submit: after `late_seconds`, the receipts `first` before it, and its `fault`."""

    line: LogLine
    failure: Failure | None = None
    fault: Fault = Fault.NONE
    late_seconds: float = 0.0
    first: Sequence[Due] = ()
    later: Sequence[Due] = ()


class Bucket:
    """A token bucket; rate 0 lets everything through."""

    def __init__(self, rate_per_second: float, burst: int) -> None:
        self._rate = rate_per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        if self._rate <= 0:
            return True
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class Exchange:
    """One carrier: its rules, its memory, and the receipts it owes (`is_full`: no more can be owed).

    `boot` names this life of the process in its references, so that no two lives share one.
    """

    boot: str
    is_full: Callable[[], bool]
    rules: Rules = field(default_factory=Rules)
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.change(self.rules)

    def change(self, rules: Rules) -> None:
        """Follow other rules from now on; what was owed stays owed."""
        self.rules = rules
        self._bucket = Bucket(rules.rate_per_second, rules.burst)
        self._random = random.Random(rules.seed)  # noqa: S311 - a simulator's dice, meant to be repeatable
        self._reference_for_two: str | None = None

    def forget(self) -> None:
        """Be as new, with the same rules. Numbers go on, so that no reference is given twice."""
        old = self.memory
        self.memory = Memory(old.messages_max, line_no=old.line_no, receipt_no=old.receipt_no)
        self.change(self.rules)

    def recover(self, journal: Journal) -> list[Due]:
        """Learn from the file what an earlier life took; return the receipts it still owed."""
        owed: dict[int, Due] = {}
        for entry in journal.entries():
            if isinstance(entry, Acked):
                for number in entry.acked:
                    owed.pop(number, None)
            else:
                self.memory.learn(entry)
                owed |= {due.n: due for due in entry.receipts}
        return list(owed.values())

    def take(self, submit: Submit, now: float) -> Reply:
        """Decide about one submit at `now` (seconds since the epoch), and remember it."""
        seen = self.memory.of(submit.id, submit.part)
        seen.submits += 1
        reply = self._decide(submit, seen, now)
        self.memory.note(reply.line)
        return reply

    def _decide(self, submit: Submit, seen: Seen, now: float) -> Reply:
        if not self._bucket.take(now):
            return self._refuse(submit, seen, now, RATE_LIMITED)
        if self.is_full():
            return self._refuse(submit, seen, now, FULL)
        late_seconds = self.rules.latency_seconds + self._jitter(self.rules.jitter_seconds)
        if seen.taken and self.rules.recognise_repeated_id:
            line = self._line(submit, seen, now, REPEATED, seen.reference)
            return Reply(line, late_seconds=late_seconds)
        script = choose(self.rules, submit.to, submit.id)
        if script.failure is not None and (script.fails is None or seen.failed < script.fails):
            seen.failed += 1
            return self._refuse(submit, seen, now, script.failure)
        late_seconds += script.slow_seconds
        if not script.takes:
            return Reply(self._line(submit, seen, now, LOST, None), None, script.fault, late_seconds)
        return self._accept(submit, seen, now, script, late_seconds)

    def _refuse(self, submit: Submit, seen: Seen, now: float, failure: Failure) -> Reply:
        return Reply(self._line(submit, seen, now, failure.code, None), failure)

    def _accept(self, submit: Submit, seen: Seen, now: float, script: Script, late_seconds: float) -> Reply:
        reference = self._shared_reference() if script.shares_reference else self._new_reference()
        self.memory.took(seen, reference)
        sent_at = now if script.receipts_first else now + late_seconds + self._receipt_delay()
        owed = [self._owe(submit, reference, step, sent_at + step.after_seconds) for step in script.receipts]
        line = self._line(submit, seen, now, TAKEN, reference)
        line.receipts = owed
        first, later = (owed, ()) if script.receipts_first else ((), owed)
        return Reply(line, None, script.fault, late_seconds, first, later)

    def _owe(self, submit: Submit, reference: str, step: Step, due: float) -> Due:
        self.memory.receipt_no += 1
        number = self.memory.receipt_no
        echoes = self.rules.echo_message_id and not step.has_foreign_reference
        receipt = Receipt(
            reference=f"foreign-{self.boot}-{number}" if step.has_foreign_reference else reference,
            state=step.state,
            done_at=datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds"),
            to=submit.to,
            part=submit.part,
            error=step.error,
            id=submit.id if echoes else None,
            attempt=submit.attempt if echoes else None,
        )
        return Due(due, number, receipt)

    def _line(self, submit: Submit, seen: Seen, now: float, outcome: str, reference: str | None) -> LogLine:
        self.memory.line_no += 1
        return LogLine(
            n=self.memory.line_no,
            at=now,
            id=submit.id,
            part=submit.part,
            attempt=submit.attempt,
            to=submit.to,
            sender=submit.sender,
            segments=submit.segments,
            chars=len(submit.text),
            sha256=hashlib.sha256(submit.text.encode()).hexdigest(),
            outcome=outcome,
            count=seen.submits,
            reference=reference,
            text=submit.text,
        )

    def _new_reference(self) -> str:
        return f"sim-{self.boot}-{self.memory.line_no + 1}"

    def _shared_reference(self) -> str:
        """Two messages in a row share one."""
        shared, self._reference_for_two = self._reference_for_two, None
        if shared is None:
            shared = self._reference_for_two = self._new_reference()
        return shared

    def _receipt_delay(self) -> float:
        return self.rules.receipt_delay_seconds + self._jitter(self.rules.receipt_jitter_seconds)

    def _jitter(self, up_to_seconds: float) -> float:
        return self._random.uniform(0.0, up_to_seconds) if up_to_seconds else 0.0
