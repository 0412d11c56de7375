"""Bodies that strangers bring to the receipts' door: whose they are is known when they are whole.

A signature is over the body, so it is read from whoever comes; all of those together are bounded.
"""

from collections import Counter
from typing import Final

from aiohttp import web

from shared.runtime import addresses

# Of those under way; a carrier's is there within milliseconds, so this is thousands of posts a second. One
# address may have as much as is left, a lone one half: 256 of the greatest bodies. In a pod of 640 MiB.
UNPROVEN_MAX_BYTES: Final = 32 * 1024 * 1024


class TooManyUnproven(Exception):  # noqa: N818 - named for what happened
    """So many bytes of posts are under way that this one may bring no more."""


class Unproven:
    """The bytes that are in hand, by address."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    async def read(self, request: web.BaseRequest, address: str, body_max_bytes: int) -> bytes:
        """A request's body of at most ``body_max_bytes``; it counts until it is whole.

        Raises:
            TooManyUnproven: of its address, or of all.
            web.HTTPRequestEntityTooLarge: it is too large.
            ConnectionError: it broke off.
        """
        subject = addresses.limit_subject(address)
        body = bytearray()
        try:
            async for piece in request.content.iter_any():
                if (size := len(body) + len(piece)) > body_max_bytes:
                    raise web.HTTPRequestEntityTooLarge(max_size=body_max_bytes, actual_size=size)
                self._take(subject, len(piece))
                body += piece
            return bytes(body)
        finally:
            self._held[subject] -= len(body)
            if not self._held[subject]:
                del self._held[subject]

    def _take(self, subject: str, more: int) -> None:
        if self._held[subject] + more > UNPROVEN_MAX_BYTES - self._held.total() - more:
            raise TooManyUnproven
        self._held[subject] += more
