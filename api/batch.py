"""POST /v1/messages/batch: many messages, each durable alone, an answer for each (RULES 12)."""

from collections.abc import Sequence
from functools import partial

from api.accept import ROUTE_BATCH
from api.admission import take_batched
from api.decisions import REPLAYED, Decision
from api.orders import Sending
from api.problems import FieldError, Refusal, invalid, invalid_field
from api.resources import Resources
from api.routing import Call, Reply
from api.schemas import BatchAnswer, BatchRequest, BatchResult, MessageRequest

# What stands beside `to` and `text` in the short form; in the long form each message has its own.
SHARED_FIELDS = (
    "sender",
    "lane",
    "client_ref",
    "send_at",
    "valid_for_seconds",
    "max_price",
    "callback_url",
    "delivery",
)


async def send_batch(resources: Resources, call: Call, *, body: BatchRequest) -> Reply[BatchAnswer]:
    """Send up to 1,000 messages.

    Each item is accepted or rejected alone and answered under its `index`. A batch is not atomic: send it
    again with the same `Idempotency-Key` to complete it, and what was accepted is answered again, not sent
    again. The shape of the whole is checked first: one unknown or mistyped field anywhere is a 422 and
    nothing is sent.
    """
    requests = _requests(body)
    await take_batched(resources.limits, call, len(requests))
    sending = Sending(call.client, call.caller.is_test, call.idempotency_key)
    look_again = None if call.admit_again is None else partial(call.admit_again, call)
    async with resources.in_flight.turn(call.client.id, ROUTE_BATCH, call.idempotency_key):
        decisions = await resources.accept.many(sending, requests, look_again)
    accepted = [decision for decision in decisions if isinstance(decision, Decision)]
    answer = BatchAnswer(
        accepted=len(accepted),
        rejected=len(decisions) - len(accepted),
        results=[_result(index, decision) for index, decision in enumerate(decisions)],
    )
    is_new = any(not decision.is_replay for decision in accepted)
    is_refused = not is_new and any(_is_refused(decision) for decision in decisions)
    return Reply(
        answer,
        headers=REPLAYED if accepted and not is_new else {},
        is_replay=not is_new and not is_refused,
        is_refused=is_refused,
    )


def _is_refused(decision: Decision | Refusal) -> bool:
    """Whether it was refused for what was asked, and not for trouble of ours."""
    return isinstance(decision, Refusal) and decision.status < 500


def _requests(body: BatchRequest) -> Sequence[MessageRequest]:
    """The messages of either form; in the short form every number gets the same text.

    Raises:
        Refusal: validation_failed, when it is neither form or both at once.
    """
    if body.messages is not None:
        stray = [name for name in ("to", "text", *SHARED_FIELDS) if getattr(body, name) is not None]
        if stray:
            raise invalid(
                FieldError("from" if name == "sender" else name, "belongs into each of messages")
                for name in stray
            )
        return body.messages
    if body.to is None or body.text is None:
        raise invalid_field("messages", "is required, or else to (a list) and text")
    shared = {name: getattr(body, name) for name in SHARED_FIELDS}
    return [MessageRequest(to=to, text=body.text, **shared) for to in body.to]


def _result(index: int, decision: Decision | Refusal) -> BatchResult:
    if isinstance(decision, Refusal):
        return BatchResult(index, problem=decision.problem())
    return BatchResult(index, id=decision.answer.id, message=decision.answer, replayed=decision.is_replay)
