"""The HTTP server: finds the operation, lets the caller in, runs the handler, answers, counts.

aiohttp's low-level server without its Application: the hot path pays for no middleware, and every
answer, also to what is hardly HTTP, is made here.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias, cast

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError

from api.access_lines import note_request
from api.admission import Admission
from api.answers import JSON_HEADERS, PROBLEM_HEADERS, Answer, fits
from api.counted import DURATION, IN_FLIGHT, REFUSALS, REQUESTS
from api.faults import refusal_for
from api.large_bodies import Grow, LargeBodies
from api.parameters import QueryReader, read_path
from api.problems import Refusal
from api.request_ids import new_request_id, request_id_of
from api.routing import BODY_MAX_BYTES, Call, Operation, Reply, Router, Serve, encode, read_body
from api.violations import refuse_body
from shared.domain.problems import ProblemCode
from shared.runtime import tracing
from shared.runtime.http_connections import HEAD_SECONDS, Connection

# While connections are waited for; they tell nobody of their end.
LOOK_SECONDS: Final = 0.02
# A connection that nobody has used for so long is hardly used in the very moment in which we close it.
SILENT_SECONDS: Final = 2.0

Routes: TypeAlias = Sequence[tuple[str, str, Serve]]
Enter: TypeAlias = Callable[[web.BaseRequest], None]

_log = structlog.get_logger(__name__)


class _Load:
    """What this process works on; a plain number, since it changes twice a request."""

    requests = 0


_load = _Load()
IN_FLIGHT.set_function(lambda: _load.requests)


class Endpoint:
    """One operation, ready to serve."""

    def __init__(
        self,
        operation: Operation,
        resources: Any,
        admission: Admission,
        access_log_ratio: float = 0.0,
        bodies: LargeBodies | None = None,
    ) -> None:
        self._access_log_ratio = access_log_ratio if operation.is_limited else 0.0
        self._operation = operation
        self._handler = operation.handler
        self._resources = resources
        self._admission = admission
        self._admit_again = partial(admission.admit_again, operation=operation)
        self._bodies = bodies or LargeBodies()
        self._respond = self._answer_large if operation.bytes_max > BODY_MAX_BYTES else self._answer
        self._decode = msgspec.json.Decoder(operation.body).decode if operation.body is not None else None
        self._query = QueryReader(operation.query)
        labels = (operation.path, operation.method)
        self._span = f"{operation.method} {operation.path}"
        self._observe = DURATION.labels(*labels).observe
        self._counter = lru_cache(maxsize=None)(lambda code: REQUESTS.labels(*labels, str(code)).inc)

    async def serve(self, request: web.BaseRequest, params: dict[str, str]) -> web.StreamResponse:
        """Answer a request, whatever happens on the way."""
        started_at = time.perf_counter()
        _load.requests += 1
        call = Call(request, request_id_of(request), self._admission.address(request))
        with tracing.request(self._span, request.headers, call.request_id) as trace:
            try:
                if self._operation.is_limited:
                    self._admission.enter(call.address)
                if self._operation.scope is not None:
                    await self._admission.admit(call, self._operation)
                response = await self._respond(call, params)
            except Exception as error:  # noqa: BLE001 - the last place where an error becomes an answer
                response = await self._refuse(call, error)
            finally:
                _load.requests -= 1
            exemplar = tracing.exemplar() if tracing.is_on else None
            status = trace.status = response.status
        self._counter(status)()
        seconds = time.perf_counter() - started_at
        self._observe(seconds, exemplar)
        if random.random() < self._access_log_ratio:  # noqa: S311 - a sample, not a secret
            note_request(call, self._operation, status, seconds)
        return response

    async def _answer_large(self, call: Call, params: dict[str, str]) -> web.StreamResponse:
        """Answer, with the body counted for as long as what was made of it is in hand."""
        call.admit_again = self._admit_again
        with self._bodies.held(call.client.id) as grow:
            return await self._answer(call, params, grow)

    async def _answer(
        self, call: Call, params: dict[str, str], grow: Grow | None = None
    ) -> web.StreamResponse:
        operation = self._operation
        inputs: dict[str, Any] = {}
        if params:
            is_made = operation.method == "PUT"
            inputs["path"] = read_path(params, operation.params, operation.tag, is_made=is_made)
        if operation.query is not None or (call.request.query_string and operation.is_limited):
            inputs["query"] = self._query.read(call.request)
        if self._decode is not None:
            is_late = not call.request.content.is_eof()
            raw = await read_body(call.request, operation.bytes_max, grow=grow)
            if is_late and operation.scope is not None:
                await self._admit_again(call)
            inputs["body"] = self._decoded(raw, self._decode)
            del raw
        call.has_begun = True
        answer = await self._handler(self._resources, call, **inputs)
        if not isinstance(answer, Reply):
            answer = Reply(answer)
        if answer.is_replay:
            await self._admission.give_back(call)
        elif answer.is_refused:
            await self._admission.give_back_refused(call)
        body = answer.body if isinstance(answer.body, bytes) else encode(answer.body)
        status = answer.status or operation.status
        call.headers["X-Request-Id"] = call.request_id
        if fits(call.request) and answer.headers.keys().isdisjoint(JSON_HEADERS):
            return Answer(status, body, call.headers | answer.headers if answer.headers else call.headers)
        headers = {**JSON_HEADERS, **call.headers, **answer.headers}
        return web.Response(body=body, status=status, headers=headers)

    def _decoded(self, raw: bytes, decode: Callable[[bytes], Any]) -> Any:
        try:
            return decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise refuse_body(error, raw, self._operation.body) from None

    async def _refuse(self, call: Call, error: Exception) -> web.StreamResponse:
        refusal = refusal_for(error, may_be_done=self._operation.is_change and call.has_begun)
        _refusals(refusal.code)()
        if refusal.status >= 500:
            _log.error(
                "request failed",
                route=self._operation.path,
                request_id=call.request_id,
                code=refusal.code,
                exc_info=error if refusal.code is ProblemCode.INTERNAL_ERROR else None,
                error=type(error).__name__,
            )
        if self._operation.is_spending:
            # Busy may be the client's own share of what everybody has, so it counts as a refusal.
            is_ours = refusal.status >= 500 and refusal.code is not ProblemCode.BUSY
            await (self._admission.give_back if is_ours else self._admission.give_back_refused)(call)
        return problem_response(refusal, call.request, call.request_id, call.headers)


class Front:
    """Every request's first step: by method and path to its endpoint or page, or to a problem.

    ``enter`` counts a request for a page, and one for what is not there, as endpoints count their own.
    ``is_leaving``: from now on each connection ends with its next answer.
    """

    def __init__(self, routes: Routes, pages: Routes = (), enter: Enter = lambda _request: None) -> None:
        counted = [(method, path, partial(self._count_and, serve)) for method, path, serve in pages]
        self._router = Router([*routes, *counted])
        self._enter = enter
        self.is_leaving = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        request.protocol.spoken_at = time.monotonic()  # type: ignore[attr-defined]  # our _Protocol
        try:
            serve, params = self._router.find(request.method, request.path)
        except Refusal as refusal:
            serve, params = partial(self._count_and, partial(_refuse, refusal)), {}
        response = await serve(request, params)
        if self.is_leaving:
            response.force_close()
        return response

    async def _count_and(
        self, serve: Serve, request: web.BaseRequest, params: dict[str, str]
    ) -> web.StreamResponse:
        try:
            self._enter(request)
            return await serve(request, params)
        except Refusal as refusal:
            REQUESTS.labels("none", "any", str(refusal.status)).inc()
            return problem_response(refusal, request, request_id_of(request))


async def _refuse(refusal: Refusal, _request: web.BaseRequest, _params: dict[str, str]) -> web.StreamResponse:
    raise refusal


class _Protocol(Connection):
    """A connection whose own errors are problems too."""

    __slots__ = ("spoken_at",)

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        # Who has just connected is about to ask.
        self.spoken_at = time.monotonic()

    def close_if_silent(self, since: float) -> None:
        """Close a connection that was made, and last asked, before then; one that is being answered stays."""
        is_idle = self._current_request is None and not self._messages
        if is_idle and self.spoken_at < since:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP; never with a traceback or a text page."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if status < 500:
            refusal = Refusal(ProblemCode.MALFORMED_REQUEST, reason=_why_no_http(exc, message or ""))
        else:
            _log.error("connection failed", error=type(exc).__name__, exc_info=exc)
            refusal = Refusal(ProblemCode.INTERNAL_ERROR)
        response = problem_response(refusal, request, new_request_id())
        response.force_close()
        return response


def _why_no_http(error: BaseException | None, message: str) -> str:
    """The parser's words without the bytes that came, which it adds in Python's spelling."""
    if isinstance(error, InvalidURLError):
        return "the URL is not valid"
    return message.partition("\n")[0].partition(" when reading")[0].rstrip(":. ")


class Server(web.Server):
    """Makes a connection's protocol for each that comes in."""

    def __init__(self, front: Front, *, head_seconds: float = HEAD_SECONDS) -> None:
        super().__init__(front.handle)
        self._front = front
        self._head_seconds = head_seconds

    async def say_goodbye(self, seconds: float) -> None:
        """End each connection with its next answer, which says so; return when all have, or after so long.

        A connection that is closed in between could meet its client's next request, which then fails; so
        only those that have been silent for ``SILENT_SECONDS`` are.
        """
        self._front.is_leaving = True
        until = time.monotonic() + seconds
        while self.connections and time.monotonic() < until:
            for connection in self.connections:
                cast("_Protocol", connection).close_if_silent(time.monotonic() - SILENT_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, head_seconds=self._head_seconds)


def problem_response(
    refusal: Refusal, request: web.BaseRequest, request_id: str, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """A refusal as an HTTP answer."""
    more = {**(headers or {}), **refusal.headers, "X-Request-Id": request_id}
    body = refusal.body(request_id)
    if fits(request) and more.keys().isdisjoint(PROBLEM_HEADERS):
        return Answer(refusal.status, body, more, is_problem=True)
    return web.Response(body=body, status=refusal.status, headers={**PROBLEM_HEADERS, **more})


@lru_cache(maxsize=len(ProblemCode))
def _refusals(code: ProblemCode) -> Callable[[], None]:
    return REFUSALS.labels(code).inc
