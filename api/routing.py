"""Our thin layer over aiohttp's HTTP server: one table of operations serves, validates and documents.

An operation's handler is a function ``(resources, call, *, body, query, path)``; it takes those of the
three that it names, and its annotations are the types that validate and that stand in the OpenAPI document.
"""

import asyncio
import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import HttpVersion11, StreamReader, web

from api.callers import Client, KeyRecord
from api.large_bodies import Grow
from api.problems import Refusal
from shared.domain.problems import ProblemCode
from shared.runtime.http_connections import BrokenBody

Body = TypeVar("Body")

# A message of 255 segments in four-byte characters, escaped, and its other fields.
BODY_MAX_BYTES = 64 * 1024
# 1,000 messages of about 2 kB each; longer texts need a smaller batch.
BATCH_MAX_BYTES = 2 * 1024 * 1024


# A body that comes slower than 70 kB/s from a batch's size is an attack or a broken line.
BODY_SECONDS = 30.0


class Call:
    """One request on its way: who calls, and what was read from its headers."""

    __slots__ = (
        "address",
        "admit_again",
        "has_begun",
        "has_slot",
        "headers",
        "idempotency_key",
        "key",
        "request",
        "request_id",
    )

    def __init__(self, request: web.BaseRequest, request_id: str, address: str) -> None:
        self.request = request
        self.request_id = request_id
        self.address = address
        self.headers: dict[str, str] = {}
        """Headers that the answer gets, whatever it will be."""
        self.key: KeyRecord | None = None
        self.idempotency_key: str | None = None
        self.has_slot = False
        """Whether the request holds a slot of its client's rate limit."""
        self.admit_again: Callable[[Call], Awaitable[None]] | None = None
        """Refuses, as at the door, who would not be let in any more; what may wait long has it."""
        self.has_begun = False
        """Whether its handler was called: before that nothing can have been done."""

    @property
    def caller(self) -> KeyRecord:
        """The API key's record; only operations with a scope have one."""
        if self.key is None:
            raise Refusal(ProblemCode.UNAUTHORIZED)
        return self.key

    @property
    def client(self) -> Client:
        """The client whose key it is."""
        client = self.caller.client if self.key is None else self.key.client
        if client is None:
            raise Refusal(ProblemCode.FORBIDDEN, detail="This key belongs to no client.")
        return client


class Reply(msgspec.Struct, Generic[Body], frozen=True, gc=False):
    """An answer that needs more than its body.

    ``is_replay`` gives the request's slot back (RULES 13), ``is_refused`` as long as refusals may (ADR 0021).
    """

    body: Body | bytes
    status: int | None = None
    headers: dict[str, str] = {}
    is_replay: bool = False
    """All of it was answered before."""
    is_refused: bool = False
    """Nothing of it was accepted now, and something was refused."""


Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path: how it is served, guarded and documented."""

    method: str
    path: str
    handler: Handler
    tag: str
    scope: str | None
    """The scope that the key needs; None: no key at all."""
    status: int = 200
    problems: tuple[ProblemCode, ...] = ()
    """What it may refuse with, beside what every operation with its inputs may."""
    bytes_max: int = BODY_MAX_BYTES
    is_idempotent: bool = False
    """Takes an Idempotency-Key."""
    is_spending: bool = False
    """Makes new messages: not for suspended clients, and refusals give slots of the limit back."""
    body: Any = None
    query: Any = None
    params: Any = None
    answer: Any = None
    media_type: str = "application/json"
    """Of the answer."""
    other_statuses: tuple[int, ...] = ()
    """Statuses, besides the usual one, that come with the same answer."""
    is_question: bool = False
    """Changes nothing, although it is a POST."""
    is_live_only: bool = False
    """Changes what live messages depend on: not for test keys."""
    is_limited: bool = True
    """Counts against the limits before authentication, and refuses an unknown query; probes do not."""

    @property
    def result(self) -> str:
        """What the answer is, in words."""
        doc = inspect.getdoc(self.answer) if isinstance(self.answer, type) else None
        return (doc if doc and self.answer is not bytes else self.summary).partition("\n")[0]

    @property
    def is_change(self) -> bool:
        """Whether it does something: then a lost answer leaves open whether it was done (RULES 4)."""
        return self.method != "GET" and not self.is_question

    @property
    def name(self) -> str:
        """The handler's name: operationId, and the label of metrics."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (inspect.getdoc(self.handler) or self.name).partition("\n")[0].rstrip(".")

    @property
    def description(self) -> str:
        """The rest of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[2].strip()


def operation(method: str, path: str, handler: Handler, **options: Any) -> Operation:
    """Make an operation; its types are the annotations of the handler's body, query, path and result."""
    hints = typing.get_type_hints(handler, include_extras=True)
    answer = hints["return"]
    if typing.get_origin(answer) is Reply:
        answer = typing.get_args(answer)[0]
    return Operation(
        method=method,
        path=path,
        handler=handler,
        body=hints.get("body"),
        query=hints.get("query"),
        params=hints.get("path"),
        answer=answer,
        **options,
    )


Serve = Callable[[web.BaseRequest, dict[str, str]], Awaitable[web.StreamResponse]]


class Router:
    """Finds who serves a path: exact paths by one look-up, templates by their number of parts."""

    def __init__(self, routes: Sequence[tuple[str, str, Serve]]) -> None:
        self._exact: dict[str, dict[str, Serve]] = {}
        self._templates: list[tuple[re.Pattern[str], dict[str, Serve]]] = []
        by_path: dict[str, dict[str, Serve]] = {}
        for method, path, serve in routes:
            methods = by_path.setdefault(path, {})
            if method in methods:
                raise ValueError(f"{method} {path} is there twice")
            methods[method] = serve
            if method == "GET":
                methods["HEAD"] = serve
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
                self._templates.append((re.compile(pattern), methods))
            else:
                self._exact[path] = methods

    def find(self, method: str, path: str) -> tuple[Serve, dict[str, str]]:
        """Return who serves it, and the parameters in the path.

        Raises:
            Refusal: not_found, method_not_allowed.
        """
        params: dict[str, str] = {}
        methods = self._exact.get(path)
        if methods is None:
            methods, params = self._match(path)
        serve = methods.get(method)
        if serve is None:
            allowed = ", ".join(sorted(methods))
            raise Refusal(ProblemCode.METHOD_NOT_ALLOWED, allowed=allowed, headers={"Allow": allowed})
        return serve, params

    def _match(self, path: str) -> tuple[dict[str, Serve], dict[str, str]]:
        for pattern, methods in self._templates:
            if match := pattern.fullmatch(path):
                return methods, match.groupdict()
        raise Refusal(ProblemCode.NOT_FOUND, what="resource at this path")


async def read_body(
    request: web.BaseRequest, bytes_max: int, *, grow: Grow | None = None, seconds: float = BODY_SECONDS
) -> bytes:
    """Read a JSON body of at most ``bytes_max`` bytes; ``grow`` hears of those beyond ``BODY_MAX_BYTES``.

    Raises:
        Refusal: unsupported_media_type, payload_too_large, malformed_request (too slow or broken), busy.
    """
    declared = request.headers.get("Content-Type")
    if declared is not None and declared != "application/json":
        media_type = declared.partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise Refusal(ProblemCode.UNSUPPORTED_MEDIA_TYPE)
    if "Content-Encoding" in request.headers:
        raise Refusal(ProblemCode.UNSUPPORTED_MEDIA_TYPE)
    is_here = grow is None and request.content.is_eof()  # most bodies come whole with the head
    length = None if is_here else request.content_length
    if length is not None and length > bytes_max:
        raise Refusal(ProblemCode.PAYLOAD_TOO_LARGE, bytes_max=bytes_max)
    try:
        if is_here:
            whole = request.content.read_nowait()
            if len(whole) > bytes_max:
                raise Refusal(ProblemCode.PAYLOAD_TOO_LARGE, bytes_max=bytes_max)
            return whole
        _ask_for_body(request)
        async with asyncio.timeout(seconds):
            return await _read_pieces(request.content, bytes_max, grow)
    except TimeoutError:
        reason = f"the body did not arrive within {seconds:g} s"
        raise Refusal(ProblemCode.MALFORMED_REQUEST, reason=reason) from None
    except BrokenBody as error:
        reason = f"the body is no chunked one: {error}"
        headers = {"Connection": "close"}
        raise Refusal(ProblemCode.MALFORMED_REQUEST, reason=reason, headers=headers) from None
    except ConnectionError:
        # Nobody hears this answer; but it is the client's fault, and is counted as that.
        reason = "the connection ended before the body did"
        raise Refusal(ProblemCode.MALFORMED_REQUEST, reason=reason) from None


def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client to send its body if it waits for that (RFC 9110, 10.1.1); aiohttp's Application would."""
    expected = request.headers.get("Expect")
    if expected is None or request.version < HttpVersion11:
        return
    if request.content.total_bytes or request.content.is_eof():
        return
    if expected.lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read_pieces(content: StreamReader, bytes_max: int, grow: Grow | None) -> bytes:
    """Read to the end."""
    whole = bytearray(await content.readany())  # grows in place, where bytes are copied for each piece
    while len(whole) <= bytes_max:
        if grow is not None and len(whole) > BODY_MAX_BYTES:
            grow(len(whole))
        if content.at_eof():
            return bytes(whole)
        whole += await content.readany()
    raise Refusal(ProblemCode.PAYLOAD_TOO_LARGE, bytes_max=bytes_max)


def refuse_unacceptable(accept: str) -> None:
    """Refuse a request whose Accept header rules JSON out.

    Raises:
        Refusal: not_acceptable.
    """
    if "*/*" in accept or "json" in accept or "application/*" in accept:
        return
    raise Refusal(ProblemCode.NOT_ACCEPTABLE)


encode = msgspec.json.Encoder().encode
