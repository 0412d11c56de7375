"""claim_batch_v1 and record_batch_v1: who may send, and what an outcome does."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from ledger import clockwork_store
from tests.support.flow import TRIES_MAX, Flow, open_flow, outcome
from tests.support.servers import Database
from worker.store import claim_batch


async def one_claimed(flow: Flow, carrier: int, **changes: Any) -> tuple[int, UUID, int]:
    """A client and its claimed message with the attempt's number."""
    client = await flow.client()
    (message,) = await flow.accepted(client, **changes)
    (claim,) = await flow.claim([message], carrier)
    assert claim.refusal is None
    return client, message, claim.attempt_no


async def test_a_claim_is_won_once_in_a_call_and_over_calls(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        ids = await flow.accepted(client, 20)
        calls = await asyncio.gather(*(flow.claim([*ids, *ids], carrier, dispatch_no=1) for _ in range(4)))
        won = [claim for call in calls for claim in call if claim.refusal is None]
        assert len(won) == 20
        assert {claim.refusal for call in calls for claim in call} == {None, "lost", "stale"}
        assert won[0].text_sealed == b"sealed"


async def test_a_claim_made_again_finds_its_own(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        ids, name = await flow.accepted(client, 3), uuid4()
        first = await flow.claim(ids, carrier, dispatch_no=1, claim_id=name)
        again = await flow.claim(ids, carrier, dispatch_no=1, claim_id=name)
        assert [(c.refusal, c.attempt_no) for c in first] == [(c.refusal, c.attempt_no) for c in again]
        stranger = await flow.claim(ids, carrier, dispatch_no=1)
        assert {claim.refusal for claim in stranger} == {"stale"}


@pytest.mark.parametrize("numbers", [[1, 2], [2, 1]])
async def test_a_stale_pair_takes_nothing_from_the_valid_one_of_its_message(
    database: Database, numbers: list[int]
) -> None:
    """A publish that was stored but not acknowledged in time: two bundles have the message."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        twice, other = await flow.accepted(client, 2)
        await flow.later([twice], 61)
        (dispatch,) = await clockwork_store.dispatch_due(flow.pool, [twice], [None] * 3, 1)
        assert dispatch.dispatch_no == 2
        work = [*((twice.hex, number) for number in numbers), (other.hex, 1), (twice.hex, 2), (twice.hex, 1)]
        expected = [None if number == 2 else "stale" for number in numbers] + [None, "lost", "lost"]
        name = uuid4()
        for _ in range(2):  # the second call is the first one's, whose answer was lost
            claims = await claim_batch(flow.pool, work, carrier, 60, name)
            assert [claim.refusal for claim in claims] == expected
            assert {claim.attempt_no for claim in claims if claim.refusal is None} == {1}
        assert await flow.pool.fetchval("select count(*) from tollwire.attempts") == 2


@pytest.mark.parametrize("beside", [[], [UUID(int=1)]], ids=["by columns", "beside a stranger"])
async def test_a_claim_tells_since_when_its_message_might_go(database: Database, beside: list[UUID]) -> None:
    """Its acceptance; a time that the client or its pace had set; never one that an absent carrier set."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        ids = at_once, paced, given_back = await flow.accepted(client, 3)
        (first, *_) = await flow.claim([given_back], carrier)
        await flow.record([outcome(given_back, first.attempt_no, "unclaimed")], carrier)
        await flow.pool.execute(
            "update tollwire.messages set created_at = created_at - interval '1 hour' where id = any ($1)",
            ids,
        )
        rows = await flow.pool.fetch("select id, created_at from tollwire.messages where id = any ($1)", ids)
        accepted_at = {row["id"]: row["created_at"] for row in rows}
        await flow.pool.execute(
            "update tollwire.outbox set dispatch_at = dispatch_at - interval '1 hour' where message_id = $1",
            at_once,
        )
        await flow.later([given_back], 60)
        paced_until = await flow.pool.fetchval(
            "select dispatch_at from tollwire.outbox where message_id = $1", paced
        )
        claims = await flow.claim([*ids, *beside], carrier)
        since = {message: claim.due_since for message, claim in zip(ids, claims, strict=False)}
        assert since == {
            at_once: accepted_at[at_once],
            paced: paced_until,
            given_back: accepted_at[given_back],
        }
        assert since[paced] > accepted_at[paced]


async def test_a_claim_says_why_it_is_refused(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client, suspended = await flow.carrier(), await flow.client(), await flow.client()
        (early, expired, held, stale) = await flow.accepted(client, 4, valid_seconds=600)
        (stopped,) = await flow.accepted(suspended)
        await flow.pool.execute("update tollwire.clients set suspended = true where id = $1", suspended)
        await flow.later([expired], 700)
        await flow.later([early], -60)
        await flow.pool.execute("delete from tollwire.message_texts where message_id = $1", held)
        claims = await flow.claim([early, expired, held, stopped, uuid4()], carrier)
        assert [c.refusal for c in claims] == ["early", "expired", "no_hold", "suspended", "stale"]
        assert [c.refusal for c in await flow.claim([stale], carrier, dispatch_no=2)] == ["stale"]
        for message in (expired, held, stopped):
            row = await flow.outbox(message)
            assert row is not None
            assert row["due_at"] <= await flow.pool.fetchval("select clock_timestamp()")
        await flow.expire([expired, stopped])
        assert [await flow.state(message) for message in (expired, stopped)] == ["EXPIRED", "FAILED_PERM"]


@pytest.mark.parametrize(
    ("word", "delivery", "state", "lock", "tries"),
    [
        ("submitted", "at_most_once", "SENT", "HELD", 1),
        ("throttled", "at_most_once", "QUEUED", "HELD", 0),
        ("unclaimed", "at_most_once", "QUEUED", "HELD", 0),
        ("refused_temp", "at_most_once", "FAILED_TEMP", "HELD", 1),
        ("refused_perm", "at_most_once", "FAILED_PERM", "RELEASED", 0),
        ("uncertain", "at_most_once", "UNKNOWN", "HELD", 1),
        ("uncertain", "at_least_once", "QUEUED", "HELD", 1),
    ],
)
async def test_an_outcome_moves_the_message(
    database: Database, word: str, delivery: str, state: str, lock: str, tries: int
) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        client, message, attempt = await one_claimed(flow, carrier, delivery=delivery)
        line = outcome(message, attempt, word)
        (recorded,) = await flow.record([line], carrier)
        assert (recorded.moved, recorded.state, recorded.client_id) == (True, state, client)
        before = await flow.state_row(message)
        assert (before["state"], before["tries"]) == (state, tries)
        assert (await flow.lock(message))["state"] == lock
        assert before["possible_duplicate"] == (delivery == "at_least_once")
        (again,) = await flow.record([line], carrier)
        assert again == recorded
        assert await flow.state_row(message) == before
        has_row = await flow.outbox(message) is not None
        assert has_row == (state not in ("SENT", "FAILED_PERM"))


async def test_an_outcome_without_the_token_moves_nothing_but_is_kept(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, first = await one_claimed(flow, carrier, delivery="at_least_once")
        await flow.record([outcome(message, first, "uncertain", retry_seconds=0.0)], carrier)
        (claim,) = await flow.claim([message], carrier)
        (late,) = await flow.record([outcome(message, first, "submitted")], carrier)
        assert (late.moved, late.state, claim.attempt_no) == (False, "SENDING", 2)
        assert (await flow.receipt(carrier, f"ref-{message}-1-1", "delivered")).state == "DELIVERED"
        assert await flow.state(message) == "DELIVERED"


async def test_a_late_answer_spares_the_second_try(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, attempt = await one_claimed(flow, carrier, delivery="at_least_once")
        await flow.record([outcome(message, attempt, "uncertain")], carrier)
        (late,) = await flow.record([outcome(message, attempt, "submitted")], carrier)
        assert (late.moved, late.state) == (True, "SENT")
        assert await flow.outbox(message) is None


async def test_the_last_refusal_ends_the_message(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        for tries_max, state in ((3, "FAILED_TEMP"), (3, "FAILED_TEMP"), (3, "FAILED_PERM")):
            (claim,) = await flow.claim([message], carrier)
            line = outcome(message, claim.attempt_no, "refused_temp", retry_seconds=0.0, error="busy")
            (recorded,) = await flow.record([line], carrier, tries_max=tries_max)
            assert recorded.state == state
        row = await flow.row("select * from tollwire.dead_letters where message_id = $1", message)
        assert (row["reason"], row["attempts"], row["client_id"]) == ("busy", 3, client)


async def test_no_try_is_made_past_the_validity(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, attempt = await one_claimed(flow, carrier, valid_seconds=60)
        line = outcome(message, attempt, "refused_temp", retry_seconds=90.0)
        assert [r.state for r in await flow.record([line], carrier)] == ["FAILED_PERM"]


async def test_a_refusal_after_an_uncertain_try_waits_for_that_ones_receipt(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, first = await one_claimed(flow, carrier, delivery="at_least_once")
        await flow.record([outcome(message, first, "uncertain", retry_seconds=0.0)], carrier)
        (claim,) = await flow.claim([message], carrier)
        (recorded,) = await flow.record([outcome(message, claim.attempt_no, "refused_perm")], carrier)
        assert recorded.state == "UNKNOWN"


async def given_up(flow: Flow, carrier: int) -> tuple[UUID, int]:
    """A message that is on its way again while the answer to its first attempt says at last: accepted."""
    _, message, first = await one_claimed(flow, carrier, delivery="at_least_once")
    await flow.later([message], 66)
    await clockwork_store.recover_claims(flow.pool, [message], TRIES_MAX)
    await flow.later([message], 2)
    (second,) = await flow.claim([message], carrier)
    await flow.record([outcome(message, first, "submitted")], carrier)
    assert await flow.state(message) == "SENDING"
    assert second.attempt_no is not None
    return message, second.attempt_no


@pytest.mark.parametrize("word", ["throttled", "unclaimed", "refused_temp", "refused_perm", "uncertain"])
async def test_what_an_earlier_attempt_handed_over_is_sent_whatever_becomes_of_the_next(
    database: Database, word: str
) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message, second = await given_up(flow, carrier)
        (recorded,) = await flow.record([outcome(message, second, word, error=word)], carrier)
        assert recorded.state == "SENT"
        row = await flow.state_row(message)
        assert (row["state"], row["error_code"]) == ("SENT", None)
        assert await flow.outbox(message) is None


async def test_what_the_carrier_lost_of_an_earlier_attempt_does_not_count_as_sent(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message, second = await given_up(flow, carrier)
        assert (await flow.receipt(carrier, f"ref-{message}-1-1", "undelivered")).outcome == "noted"
        (recorded,) = await flow.record([outcome(message, second, "throttled")], carrier)
        assert recorded.state == "QUEUED"
        # Nor does the late answer itself, when the receipt was there before it.
        _, other, first = await one_claimed(flow, carrier, delivery="at_least_once")
        await flow.record([outcome(other, first, "uncertain")], carrier)
        await flow.receipt(carrier, "unheard of", "undelivered", echo_message_id=other)
        await flow.record([outcome(other, first, "submitted")], carrier)
        assert await flow.state(other) == "QUEUED"


async def test_a_carrier_that_knows_our_ids_speaks_for_itself_alone(database: Database) -> None:
    async with open_flow(database) as flow:
        forgetful, knowing = await flow.carrier(), await flow.carrier(idempotent_submit=True)
        client, message, first = await one_claimed(flow, forgetful, delivery="at_least_once")
        await flow.record([outcome(message, first, "uncertain", retry_seconds=0.0)], forgetful)
        (claim,) = await flow.claim([message], forgetful)
        assert claim.attempt_no is not None
        line = outcome(message, claim.attempt_no, "unclaimed", next_carrier_id=knowing)
        await flow.record([line], forgetful)
        (claim,) = await flow.claim([message], knowing)
        assert claim.attempt_no is not None
        line = outcome(message, claim.attempt_no, "refused_perm")
        (recorded,) = await flow.record([line], knowing, may_ask_again=True)
        assert recorded.state == "UNKNOWN"
        settled = await flow.receipt(forgetful, "unheard of", "delivered", echo_message_id=message)
        assert settled.state == "DELIVERED"
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]


async def test_a_plan_may_charge_the_submit(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        client, message, attempt = await one_claimed(flow, carrier, charge="submitted")
        await flow.record([outcome(message, attempt, "submitted")], carrier)
        lock = await flow.lock(message)
        assert (lock["state"], lock["reason"]) == ("CAPTURED", "submitted")
        settled = await flow.receipt(carrier, f"ref-{message}-1-1", "undelivered")
        assert settled.state == "UNDELIVERED"
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]


async def test_a_retry_takes_only_the_parts_that_were_not_accepted(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=3, segments=3)
        (first,) = await flow.claim([message], carrier)
        assert first.parts == [1, 2, 3]
        words = ("submitted", "refused_temp", "submitted")
        lines = [outcome(message, 1, word, part=n, retry_seconds=0.0) for n, word in enumerate(words, 1)]
        recorded = await flow.record(lines, carrier)
        assert [r.moved for r in recorded] == [True, False, False]
        (second,) = await flow.claim([message], carrier)
        assert second.parts == [2]
        (recorded_2,) = await flow.record([outcome(message, 2, "submitted", part=2)], carrier)
        assert recorded_2.state == "SENT"
        references = [f"ref-{message}-1-1", f"ref-{message}-2-2", f"ref-{message}-1-3"]
        settled = [await flow.receipt(carrier, reference, "delivered") for reference in references]
        assert [s.outcome for s in settled] == ["noted", "noted", "moved"]


async def test_a_record_names_the_receipts_that_waited_for_it(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, attempt = await one_claimed(flow, carrier)
        early = await flow.receive(carrier, f"ref-{message}-1-1", "delivered")
        assert [s.outcome for s in await flow.settle([early])] == ["waiting"]
        (recorded,) = await flow.record([outcome(message, attempt, "submitted")], carrier)
        assert recorded.receipt_ids == [early]
        assert [s.state for s in await flow.settle([early])] == ["DELIVERED"]


async def test_a_carrier_that_knows_our_ids_is_asked_again(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier(idempotent_submit=True)
        client, message, attempt = await one_claimed(flow, carrier)
        line = outcome(message, attempt, "uncertain", retry_seconds=0.0)
        (recorded,) = await flow.record([line], carrier, may_ask_again=True)
        assert recorded.state == "QUEUED"
        assert not (await flow.state_row(message))["possible_duplicate"]
        (claim,) = await flow.claim([message], carrier)
        line = outcome(message, claim.attempt_no, "submitted", reference="same")
        await flow.record([line], carrier, may_ask_again=True)
        assert (await flow.receipt(carrier, "same", "undelivered")).state == "UNDELIVERED"
        assert (await flow.account(client))["held_micros"] == 0


async def test_an_outbox_row_that_changes_under_a_claim_loses_nothing(database: Database) -> None:
    """Every attempt in the journal is one of a message that is SENDING."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        ids = await flow.accepted(client, 6, valid_seconds=600)
        await flow.later(ids[2:4], 700)
        async with flow.pool.acquire() as other, other.transaction():
            await other.execute("update tollwire.outbox set due_at = due_at - interval '1 second'")
            claiming = asyncio.create_task(flow.claim(ids, carrier, dispatch_no=1))
            waiting = "select count(*) from pg_locks where not granted"
            async with asyncio.timeout(10):
                while not await flow.pool.fetchval(waiting):  # noqa: ASYNC110 - the event is the server's
                    await asyncio.sleep(0)
        claims = await claiming
        assert [c.refusal for c in claims] == [None, None, "expired", "expired", None, None]
        sql = """
            select count(*) from tollwire.message_states s join tollwire.attempts a
                on a.message_id = s.message_id and a.attempt_no = s.attempt_no where s.state = 'SENDING'
        """
        assert await flow.pool.fetchval(sql) == 4
        assert await flow.pool.fetchval("select count(*) from tollwire.attempts") == 4
