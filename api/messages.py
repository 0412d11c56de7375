"""Sending, and what is asked of one message before it goes: POST /v1/messages and its preview."""

from hashlib import blake2b
from typing import Final

from prometheus_client import Counter

from api.accept import ROUTE_ONE
from api.limits import remembered_key
from api.orders import Sending
from api.quote import quote
from api.resources import Resources
from api.routing import Call, Reply, encode
from api.schemas import MessageAccepted, MessageRequest, Money, Preview
from shared.domain.money import format_micros

REPLAYED: Final = {"Idempotency-Replayed": "true"}
# Tells requests under one key apart for the two minutes of the fast path: 64 bits and the key.
DIGEST_CHARACTERS: Final = 16

_replays = Counter("tollwire_idempotency_replays_total", "Requests answered again, by who knew", ["by"])
_by_valkey, _by_postgres = _replays.labels("valkey"), _replays.labels("postgres")


async def send_message(resources: Resources, call: Call, *, body: MessageRequest) -> Reply[MessageAccepted]:
    """Send a message.

    The answer 202 comes when the message is stored durably and its price is held. It is charged when the
    carrier's receipt says "delivered", and released in full when it is not. Repeat the request with the
    same `Idempotency-Key` after any doubt: it is sent once.
    """
    sending = Sending(call.client, call.caller.is_test, call.idempotency_key)
    if call.idempotency_key is None:
        return Reply((await resources.accept.one(sending, body)).answer)
    return await _send_once(resources, call, call.idempotency_key, sending, body)


async def _send_once(
    resources: Resources, call: Call, key: str, sending: Sending, body: MessageRequest
) -> Reply[MessageAccepted]:
    """Send under an idempotency key: from the fast path when it knows the very same request, else in turn."""
    kind = b"test" if call.caller.is_test else b"live"
    digest = blake2b(encode(body), digest_size=DIGEST_CHARACTERS // 2, person=kind).hexdigest()
    if call.remembered is not None and call.remembered.startswith(digest):
        _by_valkey.inc()
        return Reply(call.remembered[DIGEST_CHARACTERS:].encode(), headers=REPLAYED, is_replay=True)
    client_id = call.client.id
    async with resources.in_flight.turn(client_id, ROUTE_ONE, key):
        decision = await resources.accept.one(sending, body)
    answer = encode(decision.answer)
    if decision.is_replay:
        _by_postgres.inc()
    resources.limits.remember(remembered_key(client_id, ROUTE_ONE, key), digest + answer.decode())
    return Reply(answer, headers=REPLAYED if decision.is_replay else {}, is_replay=decision.is_replay)


async def preview_message(resources: Resources, call: Call, *, body: MessageRequest) -> Preview:
    """Preview a message.

    Shows its encoding, segments and price without sending it. It is measured and priced by the very
    function that bills it, under the rates named by `rate_version`.
    """
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
