"""One POST to a carrier and what came of it: an answer, nothing sent, or nobody knows.

The whole care is for the line between the last two. It is drawn when a request has its connection and is
about to be written: whatever fails before, however strangely, has sent nothing; whatever fails after leaves
the message's fate open. Nothing but a cancellation is raised, for who is raised at cannot tell the two apart.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
import msgspec
import structlog
from prometheus_client import Histogram

from shared.domain.http_settings import HttpSettings
from shared.runtime import tracing
from shared.runtime.clock import running_seconds
from shared.runtime.loops import is_cancelled
from shared.runtime.metrics import SECONDS_BUCKETS
from worker.carriers.base import BUSY, UNREACHABLE, Handover, Refused
from worker.carriers.connections import Connections
from worker.carriers.http_answers import AnswerConnector, Unasked
from worker.carriers.verdicts import Answer, Unread, retry_after_seconds

# An answer is a reference and a sentence, a bulk's one each; whatever is larger is not read.
ANSWER_MAX_BYTES = 1_048_576
USER_AGENT = "Tollwire/0.1"

SUBMIT_SECONDS: Final = Histogram(
    "tollwire_submit_seconds",
    "From the first byte to the carrier's answer",
    ["carrier"],
    buckets=SECONDS_BUCKETS,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte has left: for certain the carrier has nothing."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes may have left, and no answer came."""

    why: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What is written when a request's turn has come, and within how many seconds from then.

    `half_seconds`: until half of the claim's deadline. Who cannot be connected to by then is unreachable.
    """

    body: bytes
    write_within_seconds: float
    half_seconds: float


class _TooLate(Exception):  # noqa: N818 - named for what happened
    """The connection came when nothing may be written any more."""


class _TurnedAway(Exception):  # noqa: N818 - named for what happened
    """The connection came when this request was not wanted any more."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused


@dataclass(slots=True)
class _Progress:
    write_by: float  # by the clock that goes on in a suspend, which a message's validity does too
    handover: Handover
    is_written: bool = False
    written_at: float = 0.0


class HttpExchange:
    """Keep-alive connections to one carrier, at most `connections_max` requests at a time."""

    def __init__(self, carrier: str, settings: HttpSettings, headers: dict[str, str]) -> None:
        self._unasked = Unasked(carrier)
        self._settings = settings
        # identity: a small answer gains nothing from compression, and a bomb must not unfold here.
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
            **headers,
        }
        self._connections = Connections(settings.connections_max)
        self._submit_seconds = SUBMIT_SECONDS.labels(carrier)

    async def __aenter__(self) -> Self:
        self._connector = AnswerConnector(
            self._unasked,
            limit=self._settings.connections_max,
            keepalive_timeout=self._settings.keepalive_seconds,
        )
        trace = aiohttp.TraceConfig()
        # Before the first byte, in spite of its name.
        trace.on_request_headers_sent.append(_note_written)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def turn_away(self) -> None:
        """Answer at once for those who wait for a connection and may not be written any more."""
        self._connections.turn_away()

    async def post(
        self,
        url: str,
        turn: Callable[[float], Turn],
        asked_at: float,
        wait_seconds: float,
        deadline_seconds: float,
        handover: Handover,
    ) -> Answer | NotSent | Lost | Refused:
        """Send one request and read its answer, within the settings' timeouts and the deadline.

        From ``asked_at``, in seconds of the clock that goes on in a suspend, its turn may take
        ``wait_seconds`` to come: only then ``turn`` is asked what to write, and is told how many seconds have
        gone by. What ``handover`` refuses until the first byte is written is the answer. A redirect is an
        answer too; it is not followed.
        """
        progress = _Progress(asked_at + wait_seconds, handover)
        try:
            async with asyncio.timeout(progress.write_by - running_seconds()):
                refused = await self._connections.take(handover)
        except TimeoutError:
            return NotSent(BUSY, "no connection was free in time")
        if refused is not None:
            return refused
        try:
            came_at = running_seconds()
            now = turn(came_at - asked_at)
            progress.write_by = came_at + now.write_within_seconds
            _check(progress)  # with everything free at once it may be late all the same
            left_seconds = deadline_seconds - (came_at - asked_at)
            return await self._exchange(url, now.body, progress, now.half_seconds, left_seconds)
        except _TooLate:
            return NotSent(BUSY, "it was too late to write it")
        except _TurnedAway as away:
            return away.refused
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            return _failed(error, progress)  # the session was closed, and took back what we waited for
        except Exception as error:  # noqa: BLE001 - it becomes an outcome, by whether anything was written
            return _failed(error, progress)
        finally:
            self._connections.give()
            if progress.is_written:
                self._submit_seconds.observe(running_seconds() - progress.written_at, tracing.exemplar())

    async def _exchange(
        self, url: str, body: bytes, progress: _Progress, half_seconds: float, left_seconds: float
    ) -> Answer:
        # By the deadline alone: a carrier that a message's last moment is too short for is not unreachable.
        connect_seconds = min(self._settings.connect_timeout_seconds, half_seconds)
        # math.inf: aiohttp would round a timeout of more than 5 s up to a whole second, past the deadline.
        timeout = aiohttp.ClientTimeout(connect=connect_seconds, ceil_threshold=math.inf)
        async with (
            asyncio.timeout(min(self._settings.total_timeout_seconds, left_seconds)),
            self._session.request(
                self._settings.method,
                url,
                data=body,
                allow_redirects=False,
                timeout=timeout,
                trace_request_ctx=progress,
            ) as response,
        ):
            document = await _document(response)
            wait = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
            return Answer(response.status, document, wait)


def _failed(error: BaseException, progress: _Progress) -> NotSent | Lost:
    """Say what a failure means. A strange one, such as a host that is no name, is logged."""
    why = type(error).__name__
    if not isinstance(error, aiohttp.ClientError | OSError):
        _log.warning("submit failed strangely", is_written=progress.is_written, exc_info=error)
    if not progress.is_written:
        return NotSent(UNREACHABLE, f"no connection: {why}")
    return Lost(f"sent, but no answer came: {why}")


async def _document(response: aiohttp.ClientResponse) -> object | Unread:
    """Read the body, bounded. The status is known already, so a body that fails does not undo the answer."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_MAX_BYTES:
                response.close()
                return Unread(f"its body is larger than {ANSWER_MAX_BYTES} bytes")
        return msgspec.json.decode(body) if body else None
    except (aiohttp.ClientError, OSError) as error:
        return Unread(f"its body broke off: {type(error).__name__}")
    except (ValueError, RecursionError):
        return Unread("its body is not JSON")


def _check(progress: _Progress) -> float:
    """Raise when it may not be written; return the time."""
    refused = progress.handover.refusal()
    if refused is not None:
        raise _TurnedAway(refused)
    now = running_seconds()
    if now >= progress.write_by:
        raise _TooLate
    return now


async def _note_written(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.written_at = _check(progress)
    progress.is_written = True
