"""POST /receipts/<carrier>: authenticated, durable, then answered (RULES 24, 37)."""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import structlog
from aiohttp import web
from prometheus_client import Counter

from dlr import store
from dlr.repeats import Brought, Repeats
from dlr.seldom import Seldom
from dlr.settle import Settle
from dlr.sources import Source, read_sources
from dlr.store import ReceivedReceipt
from dlr.strangers import Strangers
from dlr.unproven import TooManyUnproven, Unproven
from shared.domain.receipt_auth import ReceiptNotAuthentic, verify_receipt_auth, verify_receipt_head
from shared.domain.receipts import CarrierReceipt, MalformedReceipt, PostedReceipts
from shared.runtime import tracing
from shared.runtime.addresses import AddressReader
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.config import CarrierConfig

# Receipts are small; a body of hundreds of them fits well (RULES 37).
BODY_MAX_BYTES: Final = 64 * 1024
# As for the API: who needs longer for 64 kB holds a connection, and says nothing.
BODY_SECONDS: Final = 30.0
LINGER_SECONDS: Final = 0.02
# Receipts settled in one transaction, which holds the accounts that others want too; and in memory: of one
# carrier as many as places are left free, so that none fills the queue of all.
FLUSH_MAX: Final = 500
QUEUE_MAX: Final = 20_000
FLUSHES_IN_FLIGHT: Final = 2
# After a flush that could not be settled (an account is locked for long) carriers are not kept waiting again.
APART_SECONDS: Final = 5.0
# Who is refused a place in the queue comes again then.
RETRY_AFTER_SECONDS: Final = 1

RECEIVED: Final = Counter(
    "tollwire_receipts_received_total", "Receipts kept, by carrier and state", ["carrier", "state"]
)
REFUSED: Final = Counter("tollwire_receipts_refused_total", "Receipt requests refused, by reason", ["reason"])

_log = structlog.get_logger(__name__)


# What is kept of one POST.
_Post: TypeAlias = Sequence[ReceivedReceipt]


class NotKept(Exception):  # noqa: N818 - named for what happened
    """Receipts of one POST have something that PostgreSQL refuses; the others of it are kept."""

    def __init__(self, lost: int, receipts: int) -> None:
        super().__init__(f"{lost} of {receipts} receipts cannot be kept; the others are")
        self.lost = lost


class Receive(WithParts):
    """The receipts' door. An open async context."""

    def __init__(
        self,
        pool: Pool,
        settle: Settle,
        keyring: Keyring,
        clock: Clock,
        *,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._addresses = AddressReader(trusted_proxies)
        self._strangers = Strangers()
        self._unproven = Unproven()
        self._seldom = Seldom()
        self._repeats = Repeats()
        self._pool = pool
        self._settle = settle
        self._keyring = keyring
        self._clock = clock
        self._sources: Mapping[str, Source] = {}
        # Receipts that wait, by carrier.
        self._waiting: Tally[int] = Tally()
        # Until then receipts are kept without being settled in the same transaction.
        self._apart_until = 0.0
        self._batcher: Batcher[_Post, None] = Batcher(
            self._flush,
            name="receive",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            concurrency=FLUSHES_IN_FLIGHT,
            linger_seconds=LINGER_SECONDS,
            size_of=len,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._batcher]

    def apply(self, carriers: Mapping[int, CarrierConfig]) -> None:
        """Follow the configuration. Carriers that are switched off may still send receipts.

        A row that cannot be read leaves its carrier's last good one.
        """
        self._sources = read_sources(carriers.values(), self._keyring, self._sources.values())

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 when the receipts are durable; anything else makes the carrier send them again."""
        with tracing.request("POST /receipts/{carrier}", request.headers) as trace:
            response = await self._answer(request)
            trace.status = response.status
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        source = self._sources.get(request.match_info["carrier"])
        if source is None:
            return _refuse(404, "unknown_carrier", "there is no such carrier, or it has no receipt settings")
        if "Content-Encoding" in request.headers:
            return _refuse(415, "compressed", "send the body as it is, without a Content-Encoding")
        address = self._addresses.caller(request.remote, request.headers.getall("X-Forwarded-For", ()))
        auth, secret, headers = source.auth, source.secret, request.headers
        try:
            is_proven = verify_receipt_head(auth, secret, headers, address, self._clock.now_ms() / 1000)
            body = await self._body(request, source, is_proven=is_proven)
            if isinstance(body, web.Response):
                return body
            verify_receipt_auth(auth, secret, headers, address, body, self._clock.now_ms() / 1000)
            brought = Brought(body, headers.get("Content-Type", ""))
            if reason := self._repeats.why(source, brought):
                return _refuse_malformed(source, reason)
            posted = source.reader.read(*brought)
        except ReceiptNotAuthentic as error:
            return self._turn_away(source, address, str(error))
        except MalformedReceipt as error:
            return _refuse_malformed(source, str(error))
        return await self._keep(source, brought, posted)

    async def _body(self, request: web.Request, source: Source, *, is_proven: bool) -> bytes | web.Response:
        """The body, or the refusal of one."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                if is_proven:
                    return await request.read()
                return await self._unproven.read(request, BODY_MAX_BYTES)
        except TimeoutError:
            return _refuse(408, "too_slow", f"the body did not arrive within {BODY_SECONDS:g} s")
        except ConnectionError:
            return _refuse(400, "broken_off", "the body broke off")
        except TooManyUnproven:
            self._seldom.warn("receipts refused: strangers have too many bytes under way", source.name)
            return _refuse(503, "too_many_unproven", "it took long, and others need the room: send it again")
        except web.HTTPRequestEntityTooLarge:
            # Often nobody has proved anything yet, so this must not fill the log.
            self._seldom.warn("receipts refused: too many bytes in one POST", source.name)
            detail = f"a POST has less than {BODY_MAX_BYTES} bytes: send the receipts in several"
            return _refuse(413, "too_large", detail)

    def _turn_away(self, source: Source, address: str, reason: str) -> web.Response:
        wait_seconds = self._strangers.note(address)
        if wait_seconds:
            return _refuse(
                429, "too_many_requests", "too many requests that were not authentic", wait_seconds
            )
        _log.warning("receipt refused", carrier=source.name, reason=reason)
        # Why is for our log: a stranger who guesses learns nothing from the answer.
        return _refuse(401, "not_authentic", "the request could not be authenticated")

    async def _keep(self, source: Source, brought: Brought, posted: PostedReceipts) -> web.Response:
        free, has = QUEUE_MAX - self._waiting.total(), self._waiting[source.id]
        if posted.receipts and has + len(posted.receipts) > free:
            return _refuse(503, "unavailable", f"{has} receipts of this carrier wait already")
        rows = [self._row(source, receipt) for receipt in posted.receipts]
        self._waiting[source.id] += len(rows)
        crash_point("receipt.before_commit")
        lost = len(posted.refused)
        try:
            await self.keep(rows)
        except (Busy, OutcomeUnknown) as error:
            return _refuse(503, "unavailable", str(error))
        except NotKept as error:
            lost += error.lost
        else:
            crash_point("receipt.after_commit")
            for state, count in Tally([row.state for row in rows]).items():
                RECEIVED.labels(source.name, state).inc(count)
        finally:
            self._waiting[source.id] -= len(rows)
        if posted.undated:
            self._seldom.warn("receipts have a date that cannot be read", source.name, posted.undated)
        if lost:
            return self._refuse_some(source, brought, posted, lost)
        return web.json_response({"received": len(rows)})

    def _refuse_some(
        self, source: Source, brought: Brought, posted: PostedReceipts, lost: int
    ) -> web.Response:
        """Refuse a POST of which so many receipts cannot be kept: it comes again whole."""
        reason = str(NotKept(lost, len(posted.refused) + len(posted.receipts)))
        if posted.refused:
            reason = f"{posted.refused[0]} ({reason})"
        if posted.receipts and lost == len(posted.refused):
            self._repeats.note(source, brought, reason)
        return _refuse_malformed(source, reason)

    def _row(self, source: Source, receipt: CarrierReceipt) -> ReceivedReceipt:
        return ReceivedReceipt(
            self._clock.new_uuid7(),
            source.id,
            receipt.reference,
            receipt.state.value,
            receipt.done_at,
            receipt.msisdn,
            receipt.error_code,
            receipt.part_no,
            receipt.message_id,
            receipt.attempt_no,
        )

    async def keep(self, post: _Post) -> None:
        """Make the receipts of one POST durable, beside those of others.

        Raises:
            NotKept: some cannot be kept, whatever is tried; all others are.
            OutcomeUnknown: the database did not answer.
            Busy: too many wait already.
        """
        # A carrier may find nothing to tell, or ask whether we are here: there is nothing to keep then.
        if post:
            await self._batcher.submit(post)

    async def _flush(self, posts: Sequence[_Post]) -> Sequence[Exception | None]:
        """One transaction, one answer for all; a row that is at fault is found by the batcher's halves."""
        rows = [row for post in posts for row in post]
        try:
            await self.take(rows)
        except Exception as error:
            if len(posts) > 1 or not is_bisectable(error):
                raise
            return [NotKept(await self._take_halves(rows, error), len(rows))]
        return [None] * len(posts)

    async def _take_halves(self, rows: Sequence[ReceivedReceipt], error: Exception) -> int:
        """Keep, after this error, all that can be kept; return how many cannot."""
        if len(rows) == 1:
            _log.error("receipt cannot be kept", carrier_id=rows[0].carrier_id, error=type(error).__name__)
            return 1
        lost, middle = 0, len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            try:
                await self.take(half)
            except Exception as fault:
                if not is_bisectable(fault):
                    raise
                lost += await self._take_halves(half, fault)
        return lost

    async def take(self, rows: Sequence[ReceivedReceipt]) -> None:
        """Keep receipts and settle them at once; where that is not possible, keep them and settle later."""
        is_doubtful = False
        if time.monotonic() >= self._apart_until:
            try:
                await self._settle.take(rows)
            except Exception as error:  # noqa: BLE001 - whatever it was, the receipts have to be kept
                is_doubtful = isinstance(error, OutcomeUnknown) and error.was_sent
                if not is_bisectable(error):
                    self._apart_until = time.monotonic() + APART_SECONDS
                _log.warning("receipts not settled at once", receipts=len(rows), error=repr(error))
            else:
                return
        await store.receive_batch(self._pool, rows)
        self._settle.settle_soon([row.receipt_id for row in rows], is_doubtful=is_doubtful)


def _refuse_malformed(source: Source, reason: str) -> web.Response:
    _log.warning("receipt refused", carrier=source.name, reason=reason)
    return _refuse(422, "malformed", reason)


def _refuse(
    status: int, code: str, detail: str, retry_after_seconds: int = RETRY_AFTER_SECONDS
) -> web.Response:
    REFUSED.labels(code).inc()
    headers = {"Retry-After": str(retry_after_seconds)} if status in (429, 503) else {}
    problem = {"title": code.replace("_", " "), "status": status, "code": code, "detail": detail}
    return web.json_response(problem, status=status, headers=headers, content_type="application/problem+json")
