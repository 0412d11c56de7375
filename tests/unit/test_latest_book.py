"""The book that is in force: who knows something newer waits for a newer book, and not for ever."""

import asyncio

from dlr.endpoint_book import EndpointBook, LatestBook
from shared.runtime.keyring import Keyring

LONG_SECONDS = 60.0


def a_book() -> EndpointBook:
    return EndpointBook({}, Keyring("k1", {"k1": bytes(32)}))


async def test_only_a_book_that_was_true_since_then_is_news() -> None:
    latest, old, new = LatestBook(), a_book(), a_book()
    latest.put(old, 1.0)
    waiting = asyncio.create_task(latest.wait_for_news(2.0, LONG_SECONDS))
    await asyncio.sleep(0)
    latest.put(old, 1.9)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    latest.put(new, 2.0)
    assert await waiting
    assert latest.book is new


async def test_the_same_book_found_true_again_is_news() -> None:
    latest, book = LatestBook(), a_book()
    latest.put(book, 1.0)
    waiting = asyncio.create_task(latest.wait_for_news(2.0, LONG_SECONDS))
    await asyncio.sleep(0)
    latest.put(book, 2.5)
    assert await waiting


async def test_what_is_known_already_is_not_waited_for() -> None:
    latest = LatestBook()
    latest.put(a_book(), 3.0)
    assert await latest.wait_for_news(2.0, 0.0)


async def test_nobody_waits_beyond_the_time_or_the_end() -> None:
    latest = LatestBook()
    assert not await latest.wait_for_news(1.0, 0.0)
    waiting = asyncio.create_task(latest.wait_for_news(1.0, LONG_SECONDS))
    await asyncio.sleep(0)
    latest.close()
    assert not await waiting
    assert not await latest.wait_for_news(1.0, LONG_SECONDS)
