"""An ordinary JSON answer, written in one piece.

aiohttp's own Response makes a multidict and a serialised head of what is the same text each time, which is
a fifth of what a bare request costs. What is out of the ordinary (HTTP/1.0, a HEAD, a connection that
ends, headers of its own) is still answered by it.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from api.problems import CONTENT_TYPE
from shared.runtime.http_headers import SAFE_HEADERS

JSON_HEADERS: Final = {"Content-Type": "application/json", **SAFE_HEADERS}
PROBLEM_HEADERS: Final = {**JSON_HEADERS, "Content-Type": CONTENT_TYPE}

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_COMMON: Final = "".join(f"{name}: {value}\r\n" for name, value in JSON_HEADERS.items())
_PROBLEM_COMMON: Final = "".join(f"{name}: {value}\r\n" for name, value in PROBLEM_HEADERS.items())


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        """The header's line of now."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line


_date: Final = _Date()


class Answer(web.StreamResponse):
    """A whole answer with ``JSON_HEADERS`` and some more; only for requests that ``fits``.

    A problem has ``PROBLEM_HEADERS`` instead.
    """

    def __init__(
        self, status: int, body: bytes, headers: Mapping[str, str], *, is_problem: bool = False
    ) -> None:
        # Nothing of the base's state is used, so its making (a third of the cost) is left out.
        self._code = status
        self._content = body
        self._common = _PROBLEM_COMMON if is_problem else _COMMON
        self._more = headers
        self._writer: AbstractStreamWriter | None = None
        self._is_last = False

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._code

    @property
    def keep_alive(self) -> bool:
        """Unless it is the last: ``fits`` lets no other request in."""
        return not self._is_last

    def force_close(self) -> None:
        """Let the connection end with this answer, which says so."""
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it.

        Raises:
            ConnectionResetError: the client has gone.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._writer = request.writer
        more = "".join([f"{name}: {value}\r\n" for name, value in self._more.items()])
        if more.count("\n") != len(self._more):
            raise ValueError("a header holds a line break")
        last = "Connection: close\r\n" if self._is_last else ""
        head = (
            f"{_STATUS_LINES[self._code]}{self._common}{more}{last}{_date.line()}"
            f"Content-Length: {len(self._content)}\r\n\r\n"
        )
        transport.write(head.encode("latin-1") + self._content)
        self._content = b""  # not kept twice while a client takes its time
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """Wait while the client reads more slowly than it asks."""
        if self._writer is not None:
            await self._writer.drain()


def fits(request: web.BaseRequest) -> bool:
    """Whether a request can be answered by ``Answer``."""
    return request.version == HttpVersion11 and request.keep_alive and request.method != "HEAD"
