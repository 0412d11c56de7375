"""What is answered for a message: of an accept flush, or of what stands under its key already."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from uuid import UUID

import structlog
from msgspec import Struct
from msgspec.structs import replace

from api import store
from api.counted import HOLDS
from api.faults import is_away
from api.problems import Refusal
from api.quote import Quote
from api.schemas import Available, MessageAccepted, MessageRequest, Money, time_text
from api.store import AcceptAnswer, AcceptItem
from shared.domain.money import format_micros
from shared.domain.problems import ProblemCode
from shared.runtime.batcher import Busy, DeadlinePassed
from shared.runtime.postgres import OutcomeUnknown

REPLAYED: Final = {"Idempotency-Replayed": "true"}

# What was accepted before, by its id; or why that could not be read, for each whose answer it is.
Known: TypeAlias = Mapping[UUID, store.Accepted] | Exception

_log = structlog.get_logger(__name__)


class Decision(Struct, frozen=True, gc=False):
    """An accepted message; ``is_replay`` when an earlier request with this key had it accepted."""

    answer: MessageAccepted
    is_replay: bool


def decide(
    item: AcceptItem,
    quoted: Quote,
    request: MessageRequest,
    answer: AcceptAnswer | Exception,
    known: Known,
) -> Decision:
    """What a flush decided about an item; raises the refusal, or the error that it met."""
    if isinstance(answer, Exception):
        raise answer
    if answer.outcome == "accepted":
        return Decision(_answer(item, request, answer), is_replay=False)
    earlier = before(answer, known, quoted.currency)
    # The same call, sent again after a lost connection, finds its own message: that is no replay.
    return replace(earlier, is_replay=answer.message_id != item.message_id)


def before(answer: AcceptAnswer, known: Known, currency: str) -> Decision:
    """What was decided earlier under the key; raises the refusal."""
    if answer.outcome == "replayed":
        return Decision(first_answer(answer.message_id, known), is_replay=True)
    if answer.outcome == "mismatch":
        raise Refusal(ProblemCode.IDEMPOTENCY_MISMATCH)
    raise _remembered(answer, currency)


def first_answer(message_id: UUID, known: Known) -> MessageAccepted:
    """The answer that this message had; one that cannot be read was accepted all the same (RULES 4)."""
    if not isinstance(known, Exception):
        return rebuilt(known[message_id])
    if is_away(known):
        raise Refusal(ProblemCode.OUTCOME_UNKNOWN, message_id=str(message_id)) from known
    raise known


def repeated(answer: AcceptAnswer | Refusal, known: Known, currency: str) -> Decision | Refusal:
    """The first answer of a batch's item that would be refused now, else that refusal."""
    if isinstance(answer, Refusal):
        return answer
    try:
        return before(answer, known, currency)
    except Exception as error:  # noqa: BLE001 - as in ``many``
        return refusal_of_item(error, answer.message_id)


def _answer(item: AcceptItem, request: MessageRequest, answer: AcceptAnswer) -> MessageAccepted:
    return MessageAccepted(
        id=item.message_id,
        status=answer.state,  # type: ignore[arg-type]  # the database's enum has the schema's words
        to=item.msisdn,
        sender=item.sender,
        lane=item.lane,
        encoding=item.encoding,  # type: ignore[arg-type]  # an Encoding's value
        segments=item.segments,
        price=Money(format_micros(item.amount_micros), item.currency),
        balance=Available(format_micros(answer.available_micros or 0), item.currency),
        client_ref=request.client_ref,
        created_at=time_text(answer.created_at),
    )


def rebuilt(stored: store.Accepted) -> MessageAccepted:
    """Return the first answer of an accepted message, from what is stored (RULES 10)."""
    return MessageAccepted(
        id=stored.message_id,
        status=stored.state,  # type: ignore[arg-type]  # written by accept
        to=stored.msisdn,
        sender=stored.sender,
        lane=stored.lane,  # type: ignore[arg-type]  # written by accept
        encoding=stored.encoding,  # type: ignore[arg-type]  # written by accept
        segments=stored.segments,
        price=Money(format_micros(stored.price_micros), stored.currency),
        balance=Available(format_micros(stored.available_micros or 0), stored.currency),
        client_ref=stored.client_ref,
        created_at=time_text(stored.created_at),
    )


def _remembered(answer: AcceptAnswer, currency: str) -> Refusal:
    """The refusal that was decided in the flush, or stands under the key since then."""
    arguments: dict[str, Any] = dict(answer.args or {})
    for name, micros_name in (
        ("price", "price_micros"),
        ("available", "available_micros"),
        ("max_price", "max_price_micros"),
    ):
        micros = arguments.pop(micros_name, None)
        if micros is not None:
            arguments[name] = format_micros(micros)
    code = ProblemCode(answer.problem or ProblemCode.INTERNAL_ERROR)
    headers = REPLAYED if answer.outcome == "refused_before" else None
    return Refusal(code, headers=headers, currency=currency, **arguments)


def refusal_of_item(error: Exception, message_id: UUID) -> Refusal:
    """What stands under an item's index in a batch: the others have answers of their own (RULES 12)."""
    answer = refusal_of(error, message_id)
    if isinstance(answer, Refusal):
        return answer
    _log.error("item of a batch failed", message_id=str(message_id), error=repr(error))
    detail = "An unexpected error was recorded under the message's id. Send it again under the same key."
    return Refusal(ProblemCode.INTERNAL_ERROR, detail=detail, message_id=str(message_id))


def refusal_of(error: Exception, message_id: UUID) -> Exception:
    """What the client hears of a flush that failed: "not accepted" only when it is certain (RULES 4)."""
    if isinstance(error, Busy) or (isinstance(error, DeadlinePassed) and not error.was_flushed):
        HOLDS.labels("busy").inc()
        return Refusal(ProblemCode.BUSY)
    if not isinstance(error, Refusal):
        HOLDS.labels("error").inc()
    if isinstance(error, OutcomeUnknown) and not error.was_sent:
        return Refusal(ProblemCode.UNAVAILABLE)
    if isinstance(error, OutcomeUnknown | DeadlinePassed):
        return Refusal(ProblemCode.OUTCOME_UNKNOWN, message_id=str(message_id))
    return error
