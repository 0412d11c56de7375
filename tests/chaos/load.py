"""The client, a process of its own: asks at a steady rate, and again with the same key after any doubt.

    python -m tests.chaos.load CONFIG.json

It keeps its own log of what was accepted. SIGUSR1 makes it ask for its latest 10,000 orders once more, all at
the same moment. After SIGTERM it offers nothing new, and ends when each key has a
definite word.
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from tests.chaos.logs import Appender, Cancelled, Doubt, End, Met
from tests.chaos.orders import Habits, Order, draw_order
from tests.chaos.scene import Account

# A real client's patience for a connection and for an answer; a paused process is not waited for longer. The
# wait for one of our own connections is not in it: what was never asked is no doubt.
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 10.0
AGAIN_FIRST_SECONDS, AGAIN_MAX_SECONDS = 0.2, 2.0
# Orders that wait for a word at once. Beyond it the client waits too, as any program of bounded memory.
OPEN_MAX = 20_000
# With more connections at once a client that gets little of the processor finds them all too late, gives each
# up and asks again, for ever.
CONNECTIONS_MAX = 300
STORM_ORDERS_MAX = 10_000
# At the end every key gets its word within this, or is counted as open.
CLOSING_SECONDS = 120.0
TICK_SECONDS = 0.02
# The problem that says: come back after Retry-After with the same key, and you get the first one's answer.
IN_FLIGHT = "idempotency_conflict"


class LoadConfig(msgspec.Struct, frozen=True):
    """What the process is told."""

    run: str
    seed: int
    rate_per_second: float
    api_urls: list[str]
    accounts: list[Account]
    habits: Habits
    log: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another request for the key was in flight; how many have been made by now, and when to come back.

    Two that are made at once arrive in any order: either may be told so.
    """

    asked: int
    retry_after_seconds: float


@dataclass
class Load:
    """Asks, and asks again."""

    config: LoadConfig
    session: aiohttp.ClientSession
    log: Appender
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    open: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    latest: deque[Order] = field(default_factory=lambda: deque(maxlen=STORM_ORDERS_MAX))

    async def run(self) -> None:
        """Offer orders at the rate until the stop, then wait for the last words."""
        drawn = random.Random(self.config.seed)
        begun = time.monotonic()
        offered = number = 0
        while not self.stopping.is_set():
            due = (time.monotonic() - begun) * self.config.rate_per_second
            while offered < due and self.open < OPEN_MAX:
                order = draw_order(self.config.run, number, drawn, self.config.accounts, self.config.habits)
                number += 1
                offered += len(order.offers)
                self._start(order)
            await asyncio.sleep(TICK_SECONDS)
        await self._close()

    async def _close(self) -> None:
        until = time.monotonic() + CLOSING_SECONDS
        while self.tasks and time.monotonic() < until:
            await asyncio.wait(self.tasks, timeout=1.0)
        self.log.add(End(time.time(), self.open))

    def _start(self, order: Order) -> None:
        now = time.time()
        self.log.add(*(msgspec.structs.replace(offer, at=now) for offer in order.offers))
        for delay_seconds in (0.0, *order.twin_seconds):
            self._ask_later(order, delay_seconds)
        self.latest.append(order)

    def ask_all_again(self) -> None:
        """Make the latest orders once more, all at the same moment."""
        for order in list(self.latest):
            self._ask_later(order, 0.0)

    def _ask_later(self, order: Order, delay_seconds: float) -> None:
        task = asyncio.create_task(self._until_known(order, delay_seconds))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _until_known(self, order: Order, delay_seconds: float) -> None:
        self.open += 1
        pause_seconds = AGAIN_FIRST_SECONDS
        await asyncio.sleep(delay_seconds)
        while (doubt := await self._ask(order)) is not None:
            if isinstance(doubt, InFlight):
                self.log.add(Met(time.time(), order.key, doubt.asked))
                await asyncio.sleep(doubt.retry_after_seconds)
                continue
            self.log.add(Doubt(time.time(), order.key, doubt))
            await asyncio.sleep(pause_seconds * random.uniform(0.5, 1.0))
            pause_seconds = min(2 * pause_seconds, AGAIN_MAX_SECONDS)
        self.open -= 1

    async def _ask(self, order: Order) -> "str | InFlight | None":
        """Ask once; what is doubtful about the answer, or None when every word is definite.

        Who listens nowhere is looked for twice, as a balancer does: the first may have begun to listen while
        the second ended, and at no moment did nobody.
        """
        urls = random.sample(self.config.api_urls, len(self.config.api_urls))
        for url in (*urls, *urls):
            try:
                return await self._ask_at(url, order)
            except aiohttp.ClientConnectorError:
                continue  # nobody listens there: nothing was asked
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                return type(error).__name__
        return "nobody listens"

    async def _ask_at(self, url: str, order: Order) -> "str | InFlight | None":
        headers = {
            "X-API-Key": order.api_key,
            "Idempotency-Key": order.key,
            "Content-Type": "application/json",
        }
        self.asked[order.key] += 1
        async with self.session.post(url + order.path, data=order.body, headers=headers) as answer:
            body = await answer.read()
            status, wait = answer.status, answer.headers.get("Retry-After", "")
        if status == 409 and _code(body) == IN_FLIGHT and wait.isdecimal():
            return InFlight(self.asked[order.key], float(wait))
        if status >= 500 or status in {408, 409, 429}:
            return f"{status} {_code(body)}"
        words = order.words(time.time(), status, body)
        self.log.add(*words.known)
        if order.cancels and words.known and words.known[0].id is not None:
            await self._cancel(url, order.api_key, words.known[0].id)
        return words.doubt

    async def _cancel(self, url: str, api_key: str, message_id: str) -> None:
        """Try once to cancel; whatever the answer, only a definite yes is believed."""
        try:
            async with self.session.delete(
                f"{url}/v1/messages/{message_id}", headers={"X-API-Key": api_key}
            ) as answer:
                if answer.status == 200:
                    self.log.add(Cancelled(time.time(), message_id))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return


def _code(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body).get("code"))
    except (msgspec.MsgspecError, AttributeError):
        return "unreadable"


async def main(config: LoadConfig) -> None:
    """Run until SIGTERM."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=0)
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
    with Appender(Path(config.log)) as log:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            load = Load(config, session, log)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, load.stopping.set)
            loop.add_signal_handler(signal.SIGUSR1, load.ask_all_again)
            await load.run()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=LoadConfig)))
