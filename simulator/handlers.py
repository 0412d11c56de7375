"""The simulated carrier's HTTP side: submits, and the doors for tests."""

import asyncio
import hmac
import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from simulator.exchange import Exchange, Reply
from simulator.journal import Journal
from simulator.outcomes import Fault
from simulator.receipts import Receipts
from simulator.rules import BulkFaults, Rules
from simulator.wire import BODY_MAX_BYTES, BULK_MAX, Submit

# A request that gets no answer is held this long, or until the gateway closes it.
HANG_SECONDS = 120.0
# Requests held at once; beyond, they are closed instead.
HANGING_MAX = 5_000
LOG_PAGE_MAX = 5_000
LOG_PAGE = 1_000
_JSON = {"Content-Type": "application/json"}
_GARBAGE = b"<html><body>It works!</body>"
# The order of severity when one reply carries many answers.
_WORST = (Fault.HANG, Fault.CLOSE, Fault.CLOSE_MID_REPLY, Fault.GARBAGE)


class Handlers:
    """One carrier at the door. `secret`: what submits must bear and receipts are signed with ("": none)."""

    def __init__(self, exchange: Exchange, receipts: Receipts, journal: Journal, secret: str) -> None:
        self._exchange = exchange
        self._receipts = receipts
        self._journal = journal
        self._secret = secret
        self._hanging = 0

    def app(self) -> web.Application:
        """Return the application with all its routes."""
        app = web.Application(client_max_size=BODY_MAX_BYTES)
        app.router.add_post("/submit", self.submit)
        app.router.add_post("/submit/bulk", self.submit_bulk)
        app.router.add_get("/rules", self.get_rules)
        app.router.add_put("/rules", self.put_rules)
        app.router.add_get("/log", self.get_log)
        app.router.add_get("/stats", self.get_stats)
        app.router.add_post("/reset", self.reset)
        app.router.add_get("/healthz", self.healthz)
        return app

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Take one message."""
        self._authenticate(request)
        try:
            submit = msgspec.json.decode(await request.read(), type=Submit)
        except msgspec.MsgspecError as error:
            return _problem(400, "malformed", str(error))
        (reply,) = await self._take([submit])
        body, headers = _answer(reply)
        status = 200 if reply.failure is None else reply.failure.status
        return await self._reply(request, status, body, headers, reply.fault)

    async def submit_bulk(self, request: web.Request) -> web.StreamResponse:
        """Take a list of messages; the list of answers has each one's own status."""
        self._authenticate(request)
        try:
            submits = msgspec.json.decode(await request.read(), type=list[Submit])
        except msgspec.MsgspecError as error:
            return _problem(400, "malformed", str(error))
        if not 0 < len(submits) <= BULK_MAX:
            return _problem(413, "too_many", f"a bulk has 1 to {BULK_MAX} messages")
        replies = await self._take(submits)
        is_whole = self._exchange.rules.bulk_faults is BulkFaults.WHOLE
        faults = {reply.fault for reply in replies} if is_whole else set()
        fault = next((fault for fault in _WORST if fault in faults), Fault.NONE)
        return await self._reply(request, 200, [_position(reply) for reply in replies], {}, fault)

    async def _take(self, submits: Sequence[Submit]) -> list[Reply]:
        """Decide, write down, wait as long as the rules say. The carrier has the messages from the start."""
        now = time.time()
        replies = [self._exchange.take(submit, now) for submit in submits]
        self._journal.submits([reply.line for reply in replies])
        self._receipts.schedule(due for reply in replies for due in reply.later)
        await self._receipts.send_first([due for reply in replies for due in reply.first])
        late_seconds = max(reply.late_seconds for reply in replies)
        if late_seconds > 0:
            await asyncio.sleep(late_seconds)
        return replies

    async def _reply(
        self, request: web.Request, status: int, body: object, headers: dict[str, str], fault: Fault
    ) -> web.StreamResponse:
        if fault is Fault.HANG:
            await self._hang()
        if fault in (Fault.HANG, Fault.CLOSE):
            _close(request)
        encoded = _GARBAGE if fault is Fault.GARBAGE else msgspec.json.encode(body)
        if fault is Fault.CLOSE_MID_REPLY:
            return await _break_off(request, encoded)
        return web.Response(status=status, body=encoded, headers={**_JSON, **headers})

    async def _hang(self) -> None:
        if self._hanging >= HANGING_MAX:
            return
        self._hanging += 1
        try:
            await asyncio.sleep(HANG_SECONDS)
        finally:
            self._hanging -= 1

    def _authenticate(self, request: web.Request) -> None:
        presented = request.headers.get("Authorization", "").encode()
        if self._secret and not hmac.compare_digest(presented, f"Bearer {self._secret}".encode()):
            raise web.HTTPUnauthorized(
                text='{"error":{"code":"unauthorized"}}', content_type="application/json"
            )

    async def get_rules(self, _: web.Request) -> web.Response:
        """Return the rules in force."""
        return _json(self._exchange.rules)

    async def put_rules(self, request: web.Request) -> web.Response:
        """Replace the rules as a whole."""
        try:
            rules = msgspec.json.decode(await request.read(), type=Rules)
        except msgspec.MsgspecError as error:
            return _problem(400, "malformed", str(error))
        self._exchange.change(rules)
        return _json(rules)

    async def get_log(self, request: web.Request) -> web.Response:
        """Return submits, oldest first: those after the line `after`, or those of one `id`."""
        try:
            after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", LOG_PAGE))
        except ValueError:
            return _problem(400, "malformed", "after and limit are whole numbers")
        if not 0 <= limit <= LOG_PAGE_MAX:
            return _problem(400, "malformed", f"limit is 0 to {LOG_PAGE_MAX}")
        wanted = request.query.get("id")
        found = [line for line in self._exchange.memory.log if line.n > after and wanted in (None, line.id)]
        page = found[:limit]
        return _json({"submits": page, "next": page[-1].n if page else after})

    async def get_stats(self, _: web.Request) -> web.Response:
        """Return the counts since the start or the last reset."""
        memory = self._exchange.memory
        return _json(
            {
                "counts": dict(memory.counts),
                "messages": len(memory.seen),
                "messages_taken_more_than_once": memory.taken_again,
                "receipts": {
                    "waiting": self._receipts.waiting,
                    "sent": self._receipts.sent,
                    "failed_posts": self._receipts.failed_posts,
                },
                "hanging": self._hanging,
            }
        )

    async def reset(self, _: web.Request) -> web.Response:
        """Forget every message, receipt and count, in the file too; the rules stay."""
        self._receipts.forget()
        self._exchange.forget()
        self._journal.clear()
        return _json({})

    async def healthz(self, _: web.Request) -> web.Response:
        """Answer that the process lives."""
        return _json({"status": "ok"})


def _answer(reply: Reply) -> tuple[dict[str, object], dict[str, str]]:
    failure = reply.failure
    if failure is None:
        return {"reference": reply.line.reference}, {}
    headers = {} if failure.retry_after_seconds is None else {"Retry-After": str(failure.retry_after_seconds)}
    return {"error": {"code": failure.code, "text": failure.text}}, headers


def _position(reply: Reply) -> dict[str, object] | None:
    """Return one answer of a bulk; None where the single submit would have got no answer."""
    if reply.fault is not Fault.NONE:
        return None
    body, _ = _answer(reply)
    if reply.failure is None:
        return {"status": 200, **body}
    return {"status": reply.failure.status, "retry_after": reply.failure.retry_after_seconds, **body}


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _break_off(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={**_JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers=_JSON)


def _problem(status: int, code: str, text: str) -> web.Response:
    body = msgspec.json.encode({"error": {"code": code, "text": text}})
    return web.Response(status=status, body=body, headers=_JSON)
