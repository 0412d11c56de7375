"""What may only be asked again of the carrier that knows its id, when that is not to be asked any more."""

from uuid import UUID

import pytest

from ledger import clockwork_store
from tests.support.flow import RECEIPT_WAIT_SECONDS, TRIES_MAX, Flow, open_flow, outcome
from tests.support.servers import Database
from worker.store import Claim

# How its carrier comes not to be asked: its row says so by now, or another one has the work.
CHANGES = ["row", "carrier"]


async def to_be_asked_again(flow: Flow, client: int, carrier: int, delivery: str) -> UUID:
    """A message whose first answer was lost, of a carrier that knows its id."""
    (message,) = await flow.accepted(client, delivery=delivery)
    await flow.claim([message], carrier)
    line = outcome(message, 1, "uncertain", retry_seconds=0.0)
    (recorded,) = await flow.record([line], carrier, may_ask_again=True)
    assert recorded.state == "QUEUED"
    return message


async def claimed_otherwise(flow: Flow, client: int, change: str, delivery: str) -> tuple[UUID, int, Claim]:
    """Such a message, whose claim it is, and what comes of the claim; one beside it is won."""
    carrier = await flow.carrier(idempotent_submit=True)
    message = await to_be_asked_again(flow, client, carrier, delivery)
    (beside,) = await flow.accepted(client)
    if change == "row":
        await flow.pool.execute("update tollwire.carriers set idempotent_submit = false")
    else:
        carrier = await flow.carrier(idempotent_submit=True)
    claim, other = await flow.claim([message, beside], carrier)
    assert other.refusal is None
    return message, carrier, claim


@pytest.mark.parametrize("change", CHANGES)
async def test_an_at_most_once_message_is_not_sent_to_who_does_not_know_it(
    database: Database, change: str
) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        message, carrier, claim = await claimed_otherwise(flow, client, change, "at_most_once")
        assert claim.refusal == "uncertain"
        assert [again.refusal for again in await flow.claim([message], carrier)] == ["stale"]
        assert (await clockwork_store.look_due(flow.pool, 10))["recover"] == [message]
        (moved,) = await clockwork_store.recover_claims(flow.pool, [message], TRIES_MAX)
        assert moved.state == "UNKNOWN"
        assert (await flow.state_row(message))["error_code"] == "not_asked_again"
        assert [again.refusal for again in await flow.claim([message], carrier)] == ["stale"]
        await flow.later([message], RECEIPT_WAIT_SECONDS + 3_600)
        assert [ended.state for ended in await flow.expire([message])] == ["FAILED_PERM"]
        sql = """
            select outcome::text, error_code from tollwire.attempts where message_id = $1 order by attempt_no
        """
        rows = await flow.pool.fetch(sql, message)
        assert list(map(tuple, rows)) == [("uncertain", None), ("unclaimed", "not_asked_again")]
        assert await flow.kinds(client) == ["top_up", "hold", "hold", "release"]


@pytest.mark.parametrize("is_unknown", [False, True])
async def test_its_late_answer_counts_all_the_same(database: Database, is_unknown: bool) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        message, carrier, _ = await claimed_otherwise(flow, client, "row", "at_most_once")
        if is_unknown:
            await clockwork_store.recover_claims(flow.pool, [message], TRIES_MAX)
        await flow.record([outcome(message, 1, "submitted")], carrier)
        if not is_unknown:
            await clockwork_store.recover_claims(flow.pool, [message], TRIES_MAX)
        assert await flow.state(message) == "SENT"


@pytest.mark.parametrize("change", CHANGES)
async def test_an_at_least_once_message_goes_marked(database: Database, change: str) -> None:
    async with open_flow(database) as flow:
        client = await flow.client()
        message, carrier, claim = await claimed_otherwise(flow, client, change, "at_least_once")
        assert (claim.refusal, claim.attempt_no) == (None, 2)
        assert (await flow.state_row(message))["possible_duplicate"]
        (recorded,) = await flow.record([outcome(message, 2, "submitted")], carrier)
        assert recorded.state == "SENT"
        assert (await flow.state_row(message))["possible_duplicate"]


@pytest.mark.parametrize("beside", [0, 1])
async def test_its_own_carrier_is_asked_again(database: Database, beside: int) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier(idempotent_submit=True)
        message = await to_be_asked_again(flow, client, carrier, "at_most_once")
        others = [await to_be_asked_again(flow, client, carrier, "at_least_once") for _ in range(beside)]
        claims = await flow.claim([message, *others], carrier)
        assert [(claim.refusal, claim.attempt_no) for claim in claims] == [(None, 2)] * (1 + beside)
        assert not (await flow.state_row(message))["possible_duplicate"]


# The last words on an attempt, and how each ends the message.
LAST_WORDS = {"undelivered": "UNDELIVERED", "expired": "EXPIRED", "rejected": "UNDELIVERED"}


@pytest.mark.parametrize("word", LAST_WORDS)
async def test_its_last_word_ends_an_at_most_once_message_though_its_carrier_is_not_to_be_asked(
    database: Database, word: str
) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier(idempotent_submit=True)
        message = await to_be_asked_again(flow, client, carrier, "at_most_once")
        await flow.pool.execute("update tollwire.carriers set idempotent_submit = false")
        settled = await flow.receipt(carrier, "its own", word, echo_message_id=message)
        assert (settled.outcome, settled.state) == ("moved", LAST_WORDS[word])
        assert [again.refusal for again in await flow.claim([message], carrier)] == ["stale"]
        assert await flow.kinds(client) == ["top_up", "hold", "release"]


@pytest.mark.parametrize(
    ("delivery", "word"), [("at_least_once", "uncertain"), ("at_most_once", "refused_temp")]
)
async def test_what_may_be_sent_anew_is_not_ended_by_it(database: Database, delivery: str, word: str) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier(idempotent_submit=True)
        (message,) = await flow.accepted(client, delivery=delivery)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 1, word, retry_seconds=0.0)], carrier, may_ask_again=True)
        await flow.pool.execute("update tollwire.carriers set idempotent_submit = false")
        settled = await flow.receipt(carrier, "its own", "undelivered", echo_message_id=message)
        assert settled.state is None
        assert [again.refusal for again in await flow.claim([message], carrier)] == [None]


async def test_a_last_word_on_one_of_two_that_were_asked_ends_nothing(database: Database) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier(idempotent_submit=True)
        message = await to_be_asked_again(flow, client, carrier, "at_most_once")
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "uncertain", retry_seconds=0.0)], carrier, may_ask_again=True)
        await flow.pool.execute("update tollwire.carriers set idempotent_submit = false")
        named = {"echo_message_id": message, "echo_attempt_no": 2}
        assert (await flow.receipt(carrier, "its own", "undelivered", **named)).outcome == "noted"
        assert [again.refusal for again in await flow.claim([message], carrier)] == ["uncertain"]
