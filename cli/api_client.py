"""The API as the commands call it: one request at a time or many, with patience where it may be repeated."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec

from api.problems import Problem
from cli.failures import Failure, Refused, Unreachable
from cli.network_trouble import network_trouble
from cli.target import Target

T = TypeVar("T")

# The API answers a send within 12 s or says that it cannot tell.
REQUEST_SECONDS: Final = 30.0
# A command typed by a person: a full queue passes in a few seconds, and so does the restart of a server.
PATIENCE_SECONDS: Final = 10.0
BACKOFF_FIRST_SECONDS: Final = 0.25
BACKOFF_MAX_SECONDS: Final = 15.0
# More than any command has in flight.
CONNECTIONS_MAX: Final = 32
# The largest answer is a page of 1,000 messages, about 500 kB.
ANSWER_BYTES_MAX: Final = 32 * 2**20

# The API says that nothing was done: any request may be sent again.
NOTHING_DONE: Final = frozenset({"too_many_requests", "busy", "unavailable", "idempotency_conflict"})
# It may have been done: only a request that is answered once may be sent again.
PERHAPS_DONE: Final = frozenset({"outcome_unknown", "internal_error"})

GATEWAY_STATUSES: Final = frozenset({502, 503, 504})

Told = Callable[[str, float], None]
"""Hears why a request waits and for how many seconds before it is sent again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: a success, as raw JSON."""

    status: int
    body: bytes
    is_replay: bool

    def read(self, kind: type[T]) -> T:
        """Return the body as a struct of the API.

        Raises:
            Failure: it is something else; the API is of another version.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            failure = Failure("The API's answer is not understood.", detail=str(error), hint=_OTHER_VERSION)
            failure.may_be_done = True
            raise failure from None

    def plain(self) -> Any:
        """Return the body as plain values."""
        return self.read(object)


_OTHER_VERSION = "Is it a Tollwire of this version? `tollwire --version` names ours."


class Api:
    """Calls one API with one key. An open async context.

    Args:
        target: where, and with which key.
        patience_seconds: how long one request is repeated when the API is busy or limits us.
    """

    def __init__(self, target: Target, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.target = target
        self.patience_seconds = patience_seconds
        # For a send: its server is expected back. To all others it is told at once that nobody is there.
        self.outlives_restarts = False
        self.tell: Told = lambda *_: None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json, application/problem+json"}
        if self.target.key:
            headers["X-API-Key"] = self.target.key
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        """GET; repeated as long as patience lasts. Parameters that are None are left out.

        Raises:
            Refused: the API refuses.
            Unreachable: nothing answers.
        """
        return await self.request("GET", path, query=query, may_repeat=True)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        may_repeat: bool = False,
    ) -> Answer:
        """Send a request and return its success.

        Args:
            method: as HTTP names it.
            path: from the root, with its leading slash.
            body: anything that msgspec writes as JSON; None sends none.
            query: parameters; those that are None are left out.
            idempotency_key: makes a request that may be sent again.
            may_repeat: it does the same once or twice, so it may be sent again after an unknown outcome.

        Raises:
            Refused: the API refuses.
            Unreachable: nothing answers.
            Failure: the answer is none of our API.
        """
        sent = _Sent(
            method,
            self.target.url + path,
            None if body is None else msgspec.json.encode(body),
            {name: str(value) for name, value in (query or {}).items() if value is not None},
            idempotency_key,
            may_repeat or idempotency_key is not None,
        )
        return await self._until_answered(sent)

    async def _until_answered(self, sent: "_Sent") -> Answer:
        give_up_at = time.monotonic() + self.patience_seconds
        may_be_done = False
        for attempt in count():
            try:
                return await self._send(sent)
            except Failure as failure:
                may_be_done = may_be_done or failure.may_be_done
                failure.may_be_done = may_be_done
                left_seconds = give_up_at - time.monotonic()
                wait_seconds = _wait_seconds(failure.retry_after_seconds, attempt, left_seconds)
                is_safe = sent.may_repeat or not may_be_done
                is_late = left_seconds <= 0 or wait_seconds > left_seconds
                if not failure.is_passing or not is_safe or is_late:
                    raise
                self.tell(failure.title, wait_seconds)
            await asyncio.sleep(wait_seconds)
        raise RuntimeError("unreachable")

    async def _send(self, sent: "_Sent") -> Answer:
        if self._session is None:
            raise RuntimeError("the API client is not open")
        headers = {"Content-Type": "application/json"} if sent.body is not None else {}
        if sent.idempotency_key is not None:
            headers["Idempotency-Key"] = sent.idempotency_key
        try:
            async with self._session.request(
                sent.method,
                sent.url,
                data=sent.body,
                params=sent.query,
                headers=headers,
                allow_redirects=False,  # it would take the key to another host, and make a GET of a POST
            ) as response:
                return _judge(response, await _body(response), sent, self.target.key_hint)
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error, is_passing=self.outlives_restarts, may_be_done=False) from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._unreachable(error, is_passing=True, may_be_done=True) from None

    def _unreachable(self, error: BaseException, *, is_passing: bool, may_be_done: bool) -> Failure:
        failure = Unreachable(
            f"Nothing answers at {self.target.url}.",
            detail=_why(error),
            hint="`tollwire status` shows what runs; --api-url names another API.",
        )
        failure.is_passing, failure.may_be_done = is_passing, may_be_done
        return failure


@dataclass(frozen=True, slots=True)
class _Sent:
    method: str
    url: str
    body: bytes | None
    query: dict[str, str]
    idempotency_key: str | None
    may_repeat: bool


def _why(error: BaseException) -> str:
    """What the network said, below what aiohttp makes of it, in words."""
    for below in ("certificate_error", "os_error"):
        error = getattr(error, below, error)
    match error:
        case OSError() | ssl.CertificateError():
            return f"It {network_trouble(error)[0]}."
        case aiohttp.ServerDisconnectedError():
            return "It ended the connection without an answer."
        case aiohttp.ClientPayloadError():
            return "It broke off in the middle of its answer."
        case _:
            return str(error) or type(error).__name__


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise Failure(f"{response.url} answers more than {ANSWER_BYTES_MAX} bytes.", hint=_OTHER_VERSION)
    return bytes(body)


def _judge(response: aiohttp.ClientResponse, body: bytes, sent: _Sent, key_hint: str) -> Answer:
    """Return a success; raise what else it was."""
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        raise _redirected(response, sent)
    if response.status < HTTPStatus.BAD_REQUEST:
        return Answer(response.status, body, response.headers.get("Idempotency-Replayed") == "true")
    failure: Failure
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        title = f"{sent.url} answers {response.status} {response.reason}."
        failure = Failure(title, detail=body[:200].decode("utf-8", "replace"), hint=_OTHER_VERSION)
        # A proxy in between that has no API behind it at the moment, or lost what it answered.
        failure.is_passing = response.status in GATEWAY_STATUSES
        failure.may_be_done = response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        raise failure from None
    failure = Refused(problem, key_hint=key_hint)
    failure.may_be_done = problem.code in PERHAPS_DONE
    failure.is_passing = failure.may_be_done or problem.code in NOTHING_DONE
    failure.retry_after_seconds = _retry_after_seconds(response)
    raise failure


def _redirected(response: aiohttp.ClientResponse, sent: _Sent) -> Failure:
    """Name where to, without a query or a password, which may be secrets."""
    try:
        parts = urlsplit(urljoin(sent.url, response.headers.get("Location", "")))
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:  # brackets without an address
        where = "what is no address"
    return Failure(
        f"{sent.url} answers {response.status}, a redirect to {where}.",
        hint="It was not followed. If that is the API's, name its address with --api-url.",
    )


def _retry_after_seconds(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _wait_seconds(after_seconds: float | None, attempt: int, left_seconds: float) -> float:
    """What the API asked for and a little more, so that not all come back at once.

    Else full jitter, with the last try at the end of what is left.
    """
    ceiling = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**attempt)
    spread = random.random() * ceiling  # noqa: S311 - spreads load, guards nothing
    return min(spread, left_seconds) if after_seconds is None else after_seconds + min(spread, 1.0)
