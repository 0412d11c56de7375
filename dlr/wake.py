"""Settles receipts that others kept and woke us for, on ``sms.receipt.<carrier>`` (DESIGN 7)."""

from typing import Final
from uuid import UUID

import structlog

from dlr.settle import Settle
from shared.events.receipts import MalformedEvent, decode
from shared.runtime.batcher import Busy
from shared.runtime.jetstream import JetStream
from shared.runtime.loops import Stop
from shared.runtime.postgres import OutcomeUnknown

STREAM: Final = "SMS_RECEIPT"
FETCH_MAX: Final = 50

_log = structlog.get_logger(__name__)


async def consume_wakes(jetstream: JetStream, settle: Settle, stop: Stop) -> None:
    """Settle what is named, until the stop. The sweep heals whatever is missed here."""
    async for messages in jetstream.consume(STREAM, "dlr", "sms.receipt.*", FETCH_MAX, stop=stop):
        for message in messages:
            try:
                await settle.settle([UUID(id_) for id_ in decode(message.data).receipt_ids])
                await message.ack()
            except MalformedEvent as error:
                _log.error("malformed wake dropped", error=str(error))
                await message.term()
            except (OutcomeUnknown, Busy) as error:
                _log.warning("wake given back", error=str(error))
                await message.nak(1.0)
            except Exception:  # noqa: BLE001 - one receipt's fault: its lease ends, and the sweep meets it
                _log.exception("wake failed, left to the sweep")
                await message.ack()
