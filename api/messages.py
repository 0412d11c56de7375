"""Sending, and what is asked of one message before it goes: POST /v1/messages and its preview."""

from prometheus_client import Counter

from api.accept import ROUTE_ONE
from api.decisions import REPLAYED
from api.orders import Sending
from api.quote import quote, refuse_unsendable
from api.resources import Resources
from api.routing import Call, Reply
from api.schemas import MessageAccepted, MessageRequest, Money, Preview
from shared.domain.money import format_micros

_replays = Counter(
    "tollwire_idempotency_replays_total", "Requests that were answered with their first answer"
)


async def send_message(resources: Resources, call: Call, *, body: MessageRequest) -> Reply[MessageAccepted]:
    """Send a message.

    The answer 202 comes when the message is stored durably and its price is held. It is charged when the
    carrier's receipt says "delivered", and released in full when it is not. Repeat the request with the
    same `Idempotency-Key` after any doubt: it is sent once.
    """
    client, key = call.client, call.idempotency_key
    sending = Sending(client, call.caller.is_test, key)
    async with resources.in_flight.turn(client.id, ROUTE_ONE, key):
        decision = await resources.accept.one(sending, body)
    if not decision.is_replay:
        return Reply(decision.answer)
    _replays.inc()
    return Reply(decision.answer, headers=REPLAYED, is_replay=True)


async def preview_message(resources: Resources, call: Call, *, body: MessageRequest) -> Preview:
    """Preview a message.

    Shows its encoding, segments and price without sending it. It is measured and priced by the very
    function that bills it, under the rates named by `rate_version`.
    """
    refuse_unsendable(call.client, body.sender)
    quoted = quote(
        resources.prices.current, call.client, body.to, body.text, body.sender, is_test=call.caller.is_test
    )
    if quoted.blocked is not None:
        raise quoted.blocked
    return Preview(
        to=quoted.msisdn.e164,
        region=quoted.msisdn.region,
        sender=quoted.sender,
        encoding=quoted.segmented.encoding.value,
        segments=quoted.segmented.count,
        parts=list(quoted.segmented.segments),
        price=Money(format_micros(quoted.amount_micros), quoted.currency),
        rate_version=quoted.rate_version,
    )
