"""Bodies that strangers bring to the receipts' door: whose they are is known when they are whole.

A signature is over the body, so it is read from whoever comes; all of those together are bounded. A carrier's
is there within milliseconds, so beyond the bound those that began first are broken off: a stranger's.
"""

import asyncio
from typing import Final

from aiohttp import web

# Of those under way: thousands of posts a second of carriers. In a pod of 640 MiB.
UNPROVEN_MAX_BYTES: Final = 32 * 1024 * 1024


class TooManyUnproven(Exception):  # noqa: N818 - named for what happened
    """So many bytes of posts are under way that this one, which began first, is broken off."""


class _Body:
    """One that is under way."""

    __slots__ = ("is_broken_off", "patience", "received")

    def __init__(self) -> None:
        self.received = bytearray()
        self.patience = asyncio.timeout(None)
        self.is_broken_off = False

    def break_off(self) -> None:
        self.is_broken_off = True
        self.patience.reschedule(asyncio.get_running_loop().time())


class Unproven:
    """The bodies under way, and their bytes."""

    def __init__(self) -> None:
        self._under_way: dict[_Body, None] = {}  # the oldest first
        self._bytes = 0

    async def read(self, request: web.BaseRequest, body_max_bytes: int) -> bytes:
        """A request's body of at most ``body_max_bytes``; it counts until it is whole.

        Raises:
            TooManyUnproven: others that began later needed the room.
            web.HTTPRequestEntityTooLarge: it is too large.
            ConnectionError: it broke off.
        """
        body = _Body()
        self._under_way[body] = None
        try:
            async with body.patience:
                async for piece in request.content.iter_any():
                    self._take(body, piece, body_max_bytes)
        except TimeoutError:
            raise TooManyUnproven from None
        finally:
            self._let_go(body)
        return bytes(body.received)

    def _take(self, body: _Body, piece: bytes, body_max_bytes: int) -> None:
        if body.is_broken_off:
            raise TooManyUnproven
        size = len(body.received) + len(piece)
        if size > body_max_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=body_max_bytes, actual_size=size)
        body.received += piece
        self._bytes += len(piece)
        while self._bytes > UNPROVEN_MAX_BYTES:
            oldest = next(iter(self._under_way))
            if oldest is body:
                raise TooManyUnproven
            self._let_go(oldest)
            oldest.break_off()

    def _let_go(self, body: _Body) -> None:
        if body in self._under_way:
            del self._under_way[body]
            self._bytes -= len(body.received)
