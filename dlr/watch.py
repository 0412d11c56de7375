"""One timer for thousands of things that may last equally long; nearly all of them end before."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

Subject = TypeVar("Subject")

_log = structlog.get_logger(__name__)


class Mark(Generic[Subject]):
    """One thing that is watched, until it ends."""

    __slots__ = ("due", "subject")

    def __init__(self, subject: Subject, due: float) -> None:
        self.subject: Subject | None = subject
        self.due = due

    def end(self) -> None:
        """Watch it no longer."""
        self.subject = None


class Watch(Generic[Subject]):
    """Calls ``on_late`` for what has not ended when its time is over; times are those of the event loop.

    What comes in the order of its times shares one timer. What does not has a timer of its own. An
    ``on_late`` that raises is logged, and the others are judged in their time.
    """

    def __init__(self, on_late: Callable[[Subject], None]) -> None:
        self._on_late = on_late
        self._loop = asyncio.get_running_loop()
        self._line: deque[Mark[Subject]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, subject: Subject, due: float) -> Mark[Subject]:
        """Watch it until then; the caller ends the mark."""
        mark = Mark(subject, due)
        line = self._line
        while line and line[0].subject is None:
            line.popleft()
        if line and due < line[-1].due:
            self._loop.call_at(due, self._judge, mark)
            return mark
        line.append(mark)
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        return mark

    def close(self) -> None:
        """Watch nothing any more."""
        self._line.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        line = self._line
        while line and (line[0].subject is None or line[0].due <= now):
            self._judge(line.popleft())
        if line:
            self._timer = self._loop.call_at(line[0].due, self._look)

    def _judge(self, mark: Mark[Subject]) -> None:
        subject, mark.subject = mark.subject, None
        if subject is None:
            return
        try:
            self._on_late(subject)
        except Exception:  # noqa: BLE001 - the others are judged all the same
            _log.exception("what came too late could not be ended", subject=type(subject).__name__)
