"""Look-ups of names: those that hang take no threads from the others, and the last answer helps a while."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from dlr.guard import RECENT_SECONDS, Guard, PostError
from dlr.resolver import LookUpLimits, Resolver, ResolverBusyError
from shared.domain.callback_urls import UrlPolicy, parse_callback_url
from shared.domain.callbacks import RejectReason

HANG_SECONDS_MAX = 30.0
LONG_SECONDS = 60.0
ADDRESS = "93.184.216.34"
URL = parse_callback_url("https://hooks.example.com/", UrlPolicy())


class Names:
    """Name servers: those of "dead…" swallow every question until they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name.startswith("dead"):
            self.let_go.wait(HANG_SECONDS_MAX)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        return [ADDRESS]


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.let_go.set()


@asynccontextmanager
async def asking(resolver: Resolver, number: int) -> AsyncIterator[list[asyncio.Task[list[str]]]]:
    """Ask for so many dead names."""
    tasks = [asyncio.create_task(resolver(f"dead{one}.example.")) for one in range(number)]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_names_that_hang_give_their_places_to_others_once_they_show_it(names: Names) -> None:
    limits = LookUpLimits(12, quick_max=2, slow_max=2, slow_seconds=0.02, wait_seconds=LONG_SECONDS)
    resolver = Resolver(names, limits)
    async with asking(resolver, 10):
        assert await resolver("good.example.") == [ADDRESS]
    assert len(names.asked) == 11
    resolver.close()


async def test_names_that_hung_the_last_time_share_a_part_of_the_threads(names: Names) -> None:
    limits = LookUpLimits(8, quick_max=1, slow_max=2, slow_seconds=0.02, wait_seconds=LONG_SECONDS)
    resolver = Resolver(names, limits)
    async with asking(resolver, 6) as first:
        assert await resolver("good.example.") == [ADDRESS], "behind them, when all have shown it"
        names.let_go.set()
        await asyncio.wait(first)
    names.let_go.clear()
    names.asked.clear()
    async with asking(resolver, 6):
        for one in range(20):
            assert await resolver(f"good{one}.example.") == [ADDRESS]
        assert sum(name.startswith("dead") for name in names.asked) == 2
    resolver.close()


async def test_what_finds_no_thread_in_time_is_refused_and_not_begun_later(names: Names) -> None:
    limits = LookUpLimits(2, quick_max=2, slow_max=2, slow_seconds=LONG_SECONDS, wait_seconds=0.02)
    resolver = Resolver(names, limits)
    async with asking(resolver, 2) as dead:
        with pytest.raises(ResolverBusyError):
            await resolver("good.example.")
        names.let_go.set()
        await asyncio.wait(dead)
        assert "good.example." not in names.asked
        assert await resolver("good.example.") == [ADDRESS], "asked again it is looked up"
    resolver.close()


async def test_a_close_refuses_what_has_not_begun(names: Names) -> None:
    resolver = Resolver(names, LookUpLimits(threads_max=1, wait_seconds=LONG_SECONDS))
    async with asking(resolver, 2) as (running, waiting):
        resolver.close()
        with pytest.raises(ResolverBusyError):
            await waiting
        assert not running.done()


class Threads:
    """As many threads as the machine has left for the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._start = threading.Thread.start
        made = self

        def start(thread: threading.Thread) -> None:
            made.start(thread)

        monkeypatch.setattr(threading.Thread, "start", start)

    def start(self, thread: threading.Thread) -> None:
        if self.left == 0:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        self._start(thread)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    return Threads(monkeypatch)


async def test_where_no_thread_starts_nothing_is_known_and_the_next_look_up_is_as_ever(
    names: Names, threads: Threads
) -> None:
    resolver = Resolver(names, LookUpLimits(4, quick_max=2, slow_max=2, slow_seconds=0.02))
    for one in range(10):
        with pytest.raises(ResolverBusyError):
            await resolver(f"good{one % 5}.example.")
    assert names.asked == []
    threads.left = 2
    async with asking(resolver, 1):
        for one in range(5):
            assert await resolver(f"good{one}.example.") == [ADDRESS]
    resolver.close()


async def test_where_no_further_thread_starts_a_name_waits_for_one_of_those_that_run(
    names: Names, threads: Threads
) -> None:
    threads.left = 1
    resolver = Resolver(names, LookUpLimits(wait_seconds=LONG_SECONDS))
    async with asking(resolver, 1) as dead:
        good = asyncio.create_task(resolver("good.example."))
        await asyncio.sleep(0)
        names.let_go.set()
        assert await good == [ADDRESS]
        await asyncio.wait(dead)
    resolver.close()


async def test_where_those_that_run_hang_a_name_is_refused_in_time_and_counts_as_no_slow_one(
    names: Names, threads: Threads
) -> None:
    threads.left = 1
    limits = LookUpLimits(4, quick_max=2, slow_max=1, slow_seconds=0.01, wait_seconds=1.0)
    resolver = Resolver(names, limits)
    async with asking(resolver, 1):
        with pytest.raises(ResolverBusyError):
            await resolver("good.example.")
        assert names.asked == ["dead0.example."]
        threads.left = 1
        assert await resolver("good.example.") == [ADDRESS], "the place of slow names is taken"
    resolver.close()


class Clock:
    """A time that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Answers:
    """A resolver that answers once, and then as a test says."""

    def __init__(self, later: Callable[[], Awaitable[list[str]]]) -> None:
        self._later = later
        self.asked = 0

    async def __call__(self, name: str) -> list[str]:
        self.asked += 1
        return [ADDRESS] if self.asked == 1 else await self._later()


async def silence() -> list[str]:
    await asyncio.Event().wait()
    return []


async def no_answer() -> list[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")


async def no_thread() -> list[str]:
    raise ResolverBusyError(URL.host)


async def no_such_name() -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "there is no such name")


async def inside() -> list[str]:
    return ["127.0.0.1"]


@pytest.mark.parametrize("later", [silence, no_answer, no_thread])
async def test_where_nothing_answers_the_last_answer_serves_a_while(
    later: Callable[[], Awaitable[list[str]]],
) -> None:
    guard = Guard(UrlPolicy(), Answers(later), Clock())
    first = await guard.addresses(URL)
    assert await guard.addresses(URL) == first


@pytest.mark.parametrize("later", [no_such_name, inside])
async def test_a_new_answer_stands_before_the_last_one(later: Callable[[], Awaitable[list[str]]]) -> None:
    guard = Guard(UrlPolicy(), Answers(later), Clock())
    await guard.addresses(URL)
    with pytest.raises(PostError):
        await guard.addresses(URL)


@pytest.mark.parametrize(
    ("later", "reason"),
    [(no_answer, RejectReason.NAME_NOT_RESOLVED), (no_thread, RejectReason.NO_CONNECTION_FREE)],
)
async def test_an_old_answer_serves_no_more(
    later: Callable[[], Awaitable[list[str]]], reason: RejectReason
) -> None:
    clock = Clock()
    guard = Guard(UrlPolicy(), Answers(later), clock)
    await guard.addresses(URL)
    clock.seconds = RECENT_SECONDS + 1
    with pytest.raises(PostError) as refused:
        await guard.addresses(URL)
    assert refused.value.reason is reason
