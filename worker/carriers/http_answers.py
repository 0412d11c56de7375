"""The answers on a kept connection, and what comes on it that nobody has asked for.

A carrier, or a proxy before it, may send a second answer after the first: a time-out and then the late answer
of what is behind it, or one written twice. Left on the connection it would be the answer to the next request.
"""

import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final

import aiohttp
import structlog
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from prometheus_client import Counter

# So many 1xx answers to one request. aiohttp reads them without a turn of the loop: a carrier that sends them
# without an end would hold up the whole worker, past every timeout.
INFORMATIONAL_MAX: Final = 20
# A carrier that does it once may do it with each answer: it is told this often, and counted each time.
TELL_SECONDS: Final = 60.0
_INFORMATIONAL = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101

UNASKED: Final = Counter(
    "tollwire_carrier_unasked_total",
    "Answers that a carrier sent without having been asked; they count for nothing",
    ["carrier"],
)

_log = structlog.get_logger(__name__)


class Unasked:
    """Counts and tells what one carrier sends unasked."""

    def __init__(self, carrier: str) -> None:
        self._carrier = carrier
        self._count = UNASKED.labels(carrier)
        self._told_at = -inf

    def note(self) -> None:
        """Note that something came."""
        self._count.inc()
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            _log.warning("carrier answers unasked", carrier=self._carrier, connection="closed")


class AnswerReader(ResponseHandler):
    """aiohttp's reader of a connection, which hands on one answer for each request.

    What comes after that closes the connection, so that nobody takes it out of the pool again. aiohttp's own
    looks for it only when it puts a connection back.
    """

    def __init__(self, unasked: Unasked, **of_aiohttp: Any) -> None:
        super().__init__(**of_aiohttp)
        self._unasked = unasked
        self._answer: StreamReader | None = None
        self._informational_count = 0

    def set_response_params(self, **params: Any) -> None:
        """Begin with a request."""
        self._answer = None
        self._informational_count = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Read what belongs to the answer; close the connection on what comes behind it."""
        if data and self._answer is not None and self._answer.is_eof():
            self._unasked.note()
            self.abort()
            return
        super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Hand on an answer's head, unless the request has its answer, or too many before it."""
        message, body = data
        if self.exception() is not None:  # given up, within this packet
            return
        if self._answer is not None:  # in one packet with the first, which is still to be read
            self._unasked.note()
            self.force_close()
            return
        if message.code not in _INFORMATIONAL or message.code == _SWITCHING_PROTOCOLS:
            self._answer = body
        else:
            self._informational_count += 1
            if self._informational_count > INFORMATIONAL_MAX:
                self._give_up()
                return
        super().feed_data(data, size)

    def _give_up(self) -> None:
        self.abort()  # first, since it forgets exceptions
        self.set_exception(HttpProcessingError(message=f"more than {INFORMATIONAL_MAX} 1xx answers"))


class AnswerConnector(aiohttp.TCPConnector):
    """aiohttp's pool, of connections that are read so."""

    def __init__(self, unasked: Unasked, **of_aiohttp: Any) -> None:
        super().__init__(**of_aiohttp)
        # There is no public way to choose the reader; tests/contract/test_http_unasked.py fails without it.
        make_reader: Callable[..., ResponseHandler] = AnswerReader
        self._factory = partial(make_reader, unasked, loop=self._loop)
