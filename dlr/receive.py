"""POST /receipts/<carrier>: authenticated, durable, then answered (RULES 24, 37)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from aiohttp import web
from prometheus_client import Counter

from dlr import store
from dlr.settle import Settle
from dlr.store import ReceivedReceipt
from shared.domain.receipt_auth import ReceiptNotAuthentic, verify_receipt_auth
from shared.domain.receipts import (
    CarrierReceipt,
    MalformedReceipt,
    ReceiptSettings,
    parse_receipts,
    read_receipt_settings,
)
from shared.runtime.batcher import Batcher, Busy
from shared.runtime.clock import Clock
from shared.runtime.crash_points import crash_point
from shared.runtime.keyring import Keyring
from shared.runtime.parts import WithParts
from shared.runtime.postgres import OutcomeUnknown, Pool, is_bisectable, is_retryable
from shared.storage.config import CarrierConfig, carrier_aad

# Receipts are small; a body of hundreds of them fits well (RULES 37).
BODY_MAX_BYTES: Final = 64 * 1024
LINGER_SECONDS: Final = 0.02
FLUSH_MAX: Final = 500
QUEUE_MAX: Final = 20_000
# A carrier that sends faster than this is told to slow down, before one carrier fills the queue of all.
RETRY_AFTER_SECONDS: Final = 1

RECEIVED: Final = Counter(
    "tollwire_receipts_received_total", "Receipts kept, by carrier and state", ["carrier", "state"]
)
REFUSED: Final = Counter("tollwire_receipts_refused_total", "Receipt requests refused, by reason", ["reason"])

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Source:
    """A carrier that may send receipts."""

    id: int
    name: str
    settings: ReceiptSettings
    secret: bytes | None


class Receive(WithParts):
    """The receipts' door. An open async context."""

    def __init__(self, pool: Pool, settle: Settle, keyring: Keyring, clock: Clock) -> None:
        self._pool = pool
        self._settle = settle
        self._keyring = keyring
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        self._batcher: Batcher[ReceivedReceipt, None] = Batcher(
            self._flush,
            name="receive",
            batch_max=FLUSH_MAX,
            queue_max=QUEUE_MAX,
            linger_seconds=LINGER_SECONDS,
            is_bisectable=is_bisectable,
            is_retryable=is_retryable,
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._batcher]

    def apply(self, carriers: Mapping[int, CarrierConfig]) -> None:
        """Follow the configuration. Carriers that are switched off may still send receipts."""
        sources = {}
        for config in carriers.values():
            try:
                settings = read_receipt_settings(config.settings)
                secret = None
                if config.secret_sealed is not None:
                    secret = self._keyring.unseal(config.secret_sealed, carrier_aad(config.id))
            except ValueError as error:
                _log.error("receipts of this carrier cannot be read", carrier=config.name, error=str(error))
                continue
            if settings is not None:
                sources[config.name] = _Source(config.id, config.name, settings, secret)
        self._sources = sources

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 when the receipts are durable; anything else makes the carrier send them again."""
        source = self._sources.get(request.match_info["carrier"])
        if source is None:
            return _refuse(404, "unknown_carrier", "there is no such carrier, or it has no receipt settings")
        body = await request.read()
        try:
            verify_receipt_auth(
                source.settings.auth,
                source.secret,
                request.headers,
                request.remote,
                body,
                self._clock.now_ms() / 1000,
            )
            receipts = parse_receipts(source.settings, body, request.headers.get("Content-Type", ""))
        except ReceiptNotAuthentic as error:
            _log.warning("receipt refused", carrier=source.name, reason=str(error))
            # Why is for our log: a stranger who guesses learns nothing from the answer.
            return _refuse(401, "not_authentic", "the request could not be authenticated")
        except MalformedReceipt as error:
            _log.warning("receipt refused", carrier=source.name, reason=str(error))
            return _refuse(422, "malformed", str(error))
        return await self._keep(source, receipts)

    async def _keep(self, source: _Source, receipts: list[CarrierReceipt]) -> web.Response:
        rows = [self._row(source, receipt) for receipt in receipts]
        crash_point("receipt.before_commit")
        try:
            await self._batcher.submit_many(rows)
        except (Busy, OutcomeUnknown) as error:
            return _refuse(503, "unavailable", str(error))
        crash_point("receipt.after_commit")
        for receipt in receipts:
            RECEIVED.labels(source.name, receipt.state.value).inc()
        self._settle.settle_soon([row.receipt_id for row in rows])
        return web.json_response({"received": len(rows)})

    def _row(self, source: _Source, receipt: CarrierReceipt) -> ReceivedReceipt:
        done_at: datetime | None = receipt.done_at
        return ReceivedReceipt(
            receipt_id=self._clock.new_uuid7(),
            carrier_id=source.id,
            reference=receipt.reference,
            state=receipt.state.value,
            done_at=done_at,
            msisdn=receipt.msisdn,
            error_code=receipt.error_code,
            part_no=receipt.part_no,
            echo_message_id=receipt.message_id,
            echo_attempt_no=receipt.attempt_no,
        )

    async def _flush(self, rows: list[ReceivedReceipt] | Any) -> list[None]:
        await store.receive_batch(self._pool, rows)
        return [None] * len(rows)


def _refuse(status: int, code: str, detail: str) -> web.Response:
    REFUSED.labels(code).inc()
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    problem = {"title": code.replace("_", " "), "status": status, "code": code, "detail": detail}
    return web.json_response(problem, status=status, headers=headers, content_type="application/problem+json")
