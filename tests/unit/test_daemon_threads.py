"""Daemon threads: bounded, started as they are needed, and never waited for."""

import threading
from concurrent.futures import wait

import pytest

from dlr.daemon_threads import DaemonThreads

WAIT_SECONDS = 10.0


def names_of(threads: DaemonThreads, calls: int) -> set[str]:
    """The threads that these calls run in, all at once."""
    together = threading.Barrier(calls)

    def call() -> str:
        together.wait(WAIT_SECONDS)
        return threading.current_thread().name

    return {future.result(WAIT_SECONDS) for future in [threads.submit(call) for _ in range(calls)]}


def test_as_many_calls_run_at_once_and_their_threads_are_used_again() -> None:
    threads = DaemonThreads(3, "t")
    assert names_of(threads, 3) == names_of(threads, 3) == {"t-1", "t-2", "t-3"}
    threads.shutdown()


def test_one_call_after_another_needs_one_thread() -> None:
    threads = DaemonThreads(1, "t")
    calls = [threads.submit(int, str(number)) for number in range(100)]
    assert [call.result(WAIT_SECONDS) for call in calls] == list(range(100))
    threads.shutdown()


def test_an_error_is_its_callers_and_the_thread_goes_on() -> None:
    threads = DaemonThreads(1, "t")
    with pytest.raises(ValueError, match="none"):
        threads.submit(int, "none").result(WAIT_SECONDS)
    assert threads.submit(int, "1").result(WAIT_SECONDS) == 1
    threads.shutdown()


def test_what_runs_is_left_alone_and_what_waits_is_cancelled() -> None:
    threads = DaemonThreads(1, "t")
    started, may_end = threading.Event(), threading.Event()

    def call() -> bool:
        started.set()
        return may_end.wait(WAIT_SECONDS)

    running, waiting = threads.submit(call), threads.submit(call)
    assert started.wait(WAIT_SECONDS)
    threads.shutdown()
    assert (running.running(), waiting.cancelled()) == (True, True)
    may_end.set()
    assert not wait([running], WAIT_SECONDS).not_done
    with pytest.raises(ValueError, match="left behind"):
        threads.shutdown(wait=True)


def test_a_call_for_which_no_thread_starts_is_refused_and_costs_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, called = DaemonThreads(2, "t"), threading.Event()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_thread)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start"):
                threads.submit(called.set)
    assert names_of(threads, 2) == {"t-1", "t-2"}
    assert not called.is_set()
    threads.shutdown()
