"""How a process of ours lives: it opens what it needs, runs its loops and stops when it is told to.

No TaskGroup: one loop's error must not cancel its siblings in the middle of a submit. They are asked to
stop, they finish, and then the process fails.
"""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import structlog
import uvloop

from shared.runtime import crash_points, logs, metrics, tracing
from shared.runtime.lag import measure_lag
from shared.runtime.settings import Process, SettingsError, load
from shared.runtime.ticks import until_tick

# A pod has 30 s from SIGTERM to SIGKILL; the firm stop needs a few of them.
GRACE_SECONDS: Final = 25.0
# From the firm stop to the hard exit: time for cancelled tasks to close their sockets.
FIRM_SECONDS: Final = 3.0
# What start-up made lives as long as the process: freeze it, then collect seldom (the prototype's values).
GC_THRESHOLDS: Final = (50_000, 50, 50)
# A failing loop is tried again after 1 s (or its interval, if shorter), doubled to 30 s unless it says less.
BACKOFF_FIRST_SECONDS: Final = 1.0
BACKOFF_MAX_SECONDS: Final = 30.0
# Even a loop of a few milliseconds waits this long after an error, so that it cannot spin.
BACKOFF_MIN_SECONDS: Final = 0.1
# A task that cleans up after its cancellation is left in peace for so long.
CANCEL_AGAIN_SECONDS: Final = 1.0

EXIT_STOPPED: Final = 0
EXIT_FAILED: Final = 1
EXIT_WRONG_SETTINGS: Final = 2

_log = structlog.get_logger(__name__)


class Stop:
    """The wish to stop, which every loop watches. It is given once and never taken back."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._others: list[asyncio.Event] = []
        self.reason = ""

    @property
    def requested(self) -> bool:
        """True from the moment when the process was asked to stop."""
        return self._event.is_set()

    def request(self, reason: str) -> None:
        """Ask every loop to finish. Asked again, the first reason stands."""
        if not self.requested:
            self.reason = reason
            self._event.set()
            for event in self._others:
                event.set()

    def also_set(self, event: asyncio.Event) -> None:
        """Set this event with the wish, for a loop that waits for something else, too."""
        self._others.append(event)
        if self.requested:
            event.set()

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the wish, at most so long; return whether it was given."""
        if self.requested:
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return self.requested
        return True


# The stop of the process whose service is being opened, for what it opens; none outside run_service.
STOP_OF_PROCESS: Final[ContextVar[Stop | None]] = ContextVar("stop", default=None)

Loop = Callable[[Stop], Awaitable[None]]
OpenService = Callable[[], AbstractAsyncContextManager[Sequence[Loop]]]


async def every(
    stop: Stop,
    interval_seconds: float,
    run_once: Callable[[], Awaitable[object]],
    *,
    name: str | None = None,
    backoff_max_seconds: float = BACKOFF_MAX_SECONDS,
) -> None:
    """Run something now and again after each interval, until the stop.

    Intervals of half a second or longer end up to half a second early, at the process's ticks.

    An error is counted (``tollwire_loop_failures_total``) and the next try waits longer each time, at most
    ``backoff_max_seconds`` or the interval, whichever is more. It is logged, the same one again every
    ``BACKOFF_MAX_SECONDS``. Never ends by an error.
    """
    loop_name = name or _name_of(run_once)
    failures = 0
    told, silent_until = "", 0.0
    while not stop.requested:
        try:
            await run_once()
        except Exception as error:  # noqa: BLE001 - a loop outlives whatever its work raises; logged and counted
            failures += 1
            metrics.LOOP_FAILURES.labels(loop_name).inc()
            now = time.monotonic()
            if repr(error) != told or now >= silent_until:
                told, silent_until = repr(error), now + BACKOFF_MAX_SECONDS
                _log.exception("loop failed, will try again", loop=loop_name, failures=failures)
        else:
            failures, told = 0, ""
        if await stop.wait(_pause_seconds(interval_seconds, failures, backoff_max_seconds)):
            return


def _pause_seconds(interval_seconds: float, failures: int, backoff_max_seconds: float) -> float:
    if failures == 0:
        return until_tick(interval_seconds)
    first = max(min(interval_seconds, BACKOFF_FIRST_SECONDS), BACKOFF_MIN_SECONDS)
    doublings = min(failures - 1, 30)  # beyond that any pause is past its cap
    return min(first * 2.0**doublings, max(interval_seconds, backoff_max_seconds))


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped.

    Asks again every ``CANCEL_AGAIN_SECONDS``: in Python 3.11 ``asyncio.wait_for`` swallows a cancellation
    that meets its result (https://github.com/python/cpython/issues/86296).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
        await asyncio.gather(*ended, return_exceptions=True)


async def emptied(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until a set is empty from which each task is discarded as it ends; what they raise is dropped.

    Cancelled, it cancels them, and waits until they have ended.
    """
    while tasks:
        await asyncio.gather(*tasks, return_exceptions=True)
        # The turn in which they are discarded: from Python 3.12 on what has ended is gathered without one.
        await asyncio.sleep(0)


def is_cancelled() -> bool:
    """True when this task itself was cancelled, False when something that it awaited was."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def run_service(name: str, open_service: OpenService) -> int:
    """Run a service until it is told to stop; return the exit status of the process.

    SIGTERM or SIGINT asks the loops to stop, then closes what the service opened. A second signal, or
    ``GRACE_SECONDS``, cancels them. ``FIRM_SECONDS`` later the process exits as it is. A loop that
    raises, or returns before the stop, stops the service: its siblings finish first.

    Returns:
        0 after a stop that was asked for; 1 when a loop or the opening failed or the stop was firm;
        2 when settings are wrong.
    """
    logs.configure(name, "info")
    try:
        process = load(Process, os.environ)
        crash_points.check()
        logs.configure(name, process.log_level)
        tracing.configure(name)
        metrics.BUILD.labels(name, version("tollwire"), process.commit).set(1)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Service(open_service).run())
    except (SettingsError, crash_points.UnknownCrashPoint) as error:
        _log.error("settings are wrong", faults=str(error).splitlines())
        return EXIT_WRONG_SETTINGS
    finally:
        tracing.shutdown()


class _Service:
    """One run of a service, from its opening to its exit status."""

    def __init__(self, open_service: OpenService) -> None:
        self._open_service = open_service
        self._stop = Stop()
        self._signals = 0
        self._is_open = False
        self._has_failed = False

    async def run(self) -> int:
        self._event_loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._event_loop.add_signal_handler(number, self._on_signal, number.name)
        STOP_OF_PROCESS.set(self._stop)
        self._main = asyncio.create_task(self._open_and_serve(), name="service")
        lag = asyncio.create_task(measure_lag(), name="lag")
        try:
            await self._main
        except SettingsError:
            raise
        except asyncio.CancelledError:
            _log.info("cancelled", reason=self._stop.reason)
        except Exception:  # noqa: BLE001 - logged, and it becomes the exit status
            self._has_failed = True
            _log.exception("service failed")
        finally:
            lag.cancel()
        _log.info("stopped", reason=self._stop.reason, failed=self._has_failed)
        return EXIT_FAILED if self._has_failed else EXIT_STOPPED

    async def _open_and_serve(self) -> None:
        async with self._open_service() as loops:
            self._is_open = True
            _freeze()
            _log.info("started", loops=[_name_of(loop) for loop in loops])
            await self._run_loops(loops)

    async def _run_loops(self, loops: Sequence[Loop]) -> None:
        if not loops:
            await self._stop.wait()
        pending = {asyncio.create_task(_run(loop, self._stop), name=_name_of(loop)) for loop in loops}
        try:
            while pending:
                ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    self._note_end(task)
        finally:
            await cancel_all(pending)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        loop_name = task.get_name()
        error = None if task.cancelled() else task.exception()
        if error is None and self._stop.requested and not task.cancelled():
            return
        self._has_failed = True
        metrics.LOOP_FAILURES.labels(loop_name).inc()
        _log.error("loop ended early", loop=loop_name, exc_info=error)
        self._request_stop(f"loop {loop_name} ended early")

    def _on_signal(self, name: str) -> None:
        self._signals += 1
        if self._signals == 1:
            self._request_stop(name)
        else:
            self._stop_firmly(f"second {name}")

    def _request_stop(self, reason: str) -> None:
        if self._stop.requested:
            return
        _log.info("stopping", reason=reason)
        self._stop.request(reason)
        self._event_loop.call_later(GRACE_SECONDS, self._stop_firmly, f"{GRACE_SECONDS:g} s have passed")
        if not self._is_open:
            self._main.cancel()

    def _stop_firmly(self, reason: str) -> None:
        _log.warning("stopping firmly", reason=reason)
        self._has_failed = True
        # A thread, since the event loop may be what hangs.
        last = threading.Timer(FIRM_SECONDS, os._exit, (EXIT_FAILED,))
        last.daemon = True
        last.start()
        self._main.cancel()


async def _run(loop: Loop, stop: Stop) -> None:
    await loop(stop)


def _freeze() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _name_of(work: object) -> str:
    """Name a loop for logs and metrics: a function by its name, a partial by its function's.

    What runs ``every`` so often is named by what it runs, as in the errors that it meets.
    """
    if isinstance(work, partial):
        return str(work.keywords.get("name") or _name_of(work.keywords.get("run_once", work.func)))
    name = getattr(work, "__qualname__", None) or type(work).__qualname__
    return str(name).replace(".<locals>", "")
