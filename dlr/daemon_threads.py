"""Threads that the end of the process does not wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """An executor whose threads are left behind at the exit.

    Those of a ThreadPoolExecutor are joined by the interpreter, whatever ``shutdown`` was told: a call that
    takes half a minute holds the process for as long. Nothing may be submitted after ``shutdown``.

    Args:
        threads_max: as many calls run at once; they are started as they are needed.
        name: what the threads are called.
    """

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread, as soon as one is free.

        Raises:
            RuntimeError: none is free, and the system gives the process no further one; it is not called.
        """
        if not self._idle.acquire(blocking=False) and self._started < self._threads_max:
            name = f"{self._name}-{self._started + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._started += 1
        future: Future[T] = Future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._jobs.put(partial(self._run, future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Take no further calls; those that wait for a thread are cancelled, those that run are left alone.

        Raises:
            ValueError: it is asked to wait, which it is made not to do, or to go on with what waits.
        """
        if wait or not cancel_futures:
            raise ValueError("daemon threads are left behind, and what waits for them is cancelled")
        for future in list(self._futures):
            future.cancel()
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds its caller's arguments

    def _run(self, future: Future[T], call: Callable[[], T]) -> None:
        if not future.set_running_or_notify_cancel():
            self._idle.release()
            return
        # The thread is free before the caller hears of it, who may come with the next call.
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            self._idle.release()
            future.set_exception(error)
        else:
            self._idle.release()
            future.set_result(result)
