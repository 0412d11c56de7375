"""What comes while a number is being erased, or after it, does not keep the number either."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from dlr import store
from dlr.store import CallbackRecord
from ledger import erase as erasing
from ledger.erase import erase, find
from shared.runtime.postgres import call
from tests.integration.retention.test_erase import BY, NUMBER, count, quiet
from tests.support.flow import Flow

NUMBERS_LEFT = "select count(*) from tollwire.receipts where msisdn is not null"
ANSWERS_LEFT = "select count(*) from tollwire.callback_attempts where answer_head is not null"


async def told(flow: Flow, carrier: int) -> tuple[str, UUID]:
    """A message to the number that was delivered: its reference and its callback."""
    client = await flow.client()
    await flow.endpoint(client)
    (reference,) = await flow.submitted(await flow.accepted(client, msisdn=NUMBER), carrier)
    settled = await flow.receipt(carrier, reference, "delivered", msisdn=NUMBER)
    assert settled.callback_id is not None
    return reference, settled.callback_id


async def answered(flow: Flow, callback_id: UUID, attempt_no: int) -> None:
    """The endpoint said something about the number that it was told."""
    record = CallbackRecord(
        callback_id, attempt_no, None, 500, "HTTP 500", 3, "127.0.0.1", NUMBER.encode(), 60.0
    )
    await store.record_callbacks(flow.pool, [record])


def before_messages(monkeypatch: Any, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen just before the messages are erased."""

    async def watched(pool: Any, sql: str, *args: Any, **options: Any) -> Any:
        if sql == erasing.ERASE_MESSAGES:
            await happens()
        return await call(pool, sql, *args, **options)

    monkeypatch.setattr(erasing, "call", watched)


async def test_a_receipt_and_an_answer_that_come_meanwhile_are_erased_too(flow, pool, monkeypatch):
    carrier = await flow.carrier()
    reference, callback_id = await told(flow, carrier)

    async def repeats() -> None:
        again = await flow.receipt(carrier, reference, "delivered", msisdn=NUMBER)
        assert again.outcome == "repeated"
        await answered(flow, callback_id, 1)
        assert (await count(flow, NUMBERS_LEFT), await count(flow, ANSWERS_LEFT)) == (2, 1)

    before_messages(monkeypatch, repeats)
    erased = await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    assert (erased.messages, erased.receipts, erased.answers) == (1, 2, 1)
    assert (await count(flow, NUMBERS_LEFT), await count(flow, ANSWERS_LEFT)) == (0, 0)


async def test_an_answer_to_what_was_posted_before_is_noted_without_its_text(flow, pool):
    _, callback_id = await told(flow, await flow.carrier())
    await answered(flow, callback_id, 1)
    assert await count(flow, ANSWERS_LEFT) == 1
    await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    await answered(flow, callback_id, 2)
    assert await count(flow, ANSWERS_LEFT) == 0
    assert await count(flow, "select count(*) from tollwire.callback_attempts where error = 'HTTP 500'") == 2


async def test_a_receipt_without_a_message_may_tell_the_number_as_it_is_called_at_home(flow, pool):
    carrier = await flow.carrier()
    at_home = "+" + NUMBER.removeprefix("+49")
    for msisdn in (at_home, NUMBER, at_home[:-1] + "0", "+" + at_home[2:]):
        receipt = await flow.receive(carrier, "nobody's", "delivered", msisdn=msisdn)
        sql = "update tollwire.receipts set received_at = received_at - interval '97 hours' where id = $1"
        await flow.pool.execute(sql, receipt)
        assert [s.outcome for s in await flow.settle([receipt])] == ["unmatched"]
    erased = await erase(pool, NUMBER, await find(pool, NUMBER, quiet), BY, None, quiet)
    assert (erased.receipts, erased.waiting_receipts) == (3, 0)
    assert await flow.pool.fetchval("select msisdn from tollwire.receipts where msisdn is not null") == (
        at_home[:-1] + "0"
    )
