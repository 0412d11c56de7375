"""Connections that are kept open between callbacks: bounded, short-lived, the freshest first."""

import asyncio
from collections import OrderedDict, deque
from contextlib import suppress

from dlr.connection import Connection

# Node.js and uvicorn close an idle connection after 5 s. Below that, a request rarely meets a closed one.
IDLE_SECONDS_MAX = 4.0
# After this the name is looked up again, so that an endpoint that has moved is followed.
AGE_SECONDS_MAX = 300.0
# How long a clean stop waits for aborted connections to be gone; they need one turn of the loop.
CLOSE_SECONDS_MAX = 2.0

Key = tuple[str, str, int]


class Pool:
    """Counts every open connection and keeps the idle ones by scheme, host and port."""

    def __init__(self, connections_max: int) -> None:
        self._connections_max = connections_max
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._opening = 0
        self._by_key: dict[Key, deque[Connection]] = {}
        # In the order in which they fell idle, so that sweeping looks at the oldest only.
        self._idle: OrderedDict[Connection, Key] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    def take(self, key: Key) -> Connection | None:
        """Return an idle connection, the one used last, or None."""
        waiting = self._by_key.get(key)
        while waiting:
            connection = waiting[-1]
            self._remove(connection)
            if self._is_fresh(connection):
                return connection
            connection.abort()
        return None

    def put(self, key: Key, connection: Connection) -> None:
        """Keep a connection whose exchange has ended, if it can take another."""
        if not connection.is_usable:
            return
        self._idle[connection] = key
        self._by_key.setdefault(key, deque()).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_SECONDS_MAX, self._sweep)

    def reserve(self) -> bool:
        """Take a place for a new connection, closing the one that is idle longest if need be.

        False: every place is taken by an exchange under way. After True comes ``opened`` or ``not_opened``.
        """
        if len(self._open) + self._opening >= self._connections_max:
            if not self._idle:
                return False
            self._drop_oldest()
        self._opening += 1
        return True

    def opened(self, connection: Connection) -> None:
        """Turn a reserved place into an open connection; it may be closed again already."""
        self._opening -= 1
        if connection.is_usable:
            self._open.add(connection)

    def not_opened(self) -> None:
        """Give a reserved place back."""
        self._opening -= 1

    def closed(self, connection: Connection) -> None:
        """Forget a connection that is closed, by whomever."""
        self._open.discard(connection)
        if connection in self._idle:
            self._remove(connection)
        if not self._open:
            self._emptied.set()

    async def close(self) -> None:
        """Close every connection, used or not."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if not self._open:
            return
        self._emptied.clear()
        for connection in list(self._open):
            connection.abort()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), CLOSE_SECONDS_MAX)

    def _is_fresh(self, connection: Connection) -> bool:
        now = self._loop.time()
        is_young = now - connection.opened_at < AGE_SECONDS_MAX
        return connection.is_usable and is_young and now - connection.idle_since < IDLE_SECONDS_MAX

    def _remove(self, connection: Connection) -> None:
        key = self._idle.pop(connection)
        waiting = self._by_key[key]
        if waiting[-1] is connection:
            waiting.pop()
        else:
            waiting.remove(connection)
        if not waiting:
            del self._by_key[key]

    def _drop_oldest(self) -> None:
        connection = next(iter(self._idle))
        self._remove(connection)
        connection.abort()

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - IDLE_SECONDS_MAX
        while self._idle:
            connection = next(iter(self._idle))
            if connection.idle_since > oldest:
                wait_seconds = connection.idle_since - oldest
                self._sweeper = self._loop.call_later(wait_seconds, self._sweep)
                return
            self._drop_oldest()
