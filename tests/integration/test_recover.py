"""What becomes of messages when the database was restored to an earlier moment (RULES 34)."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ledger.clockwork_store import recover_claims
from ledger.recover import CannotRecover, Recovered, plan_for, recover
from ledger.recover_facts import Said
from shared.runtime.postgres import open_pool
from shared.storage.audit import Actor
from tests.support.flow import TRIES_MAX, Flow, PoolSettings, new_id, open_flow, outcome
from tests.support.old_days import accepted_on, days_ago
from tests.support.postgres_proxy import Proxy, open_proxy
from tests.support.servers import Database

BY = Actor("test")
STORE_BYTES = 64 * 2**20


def said(
    status: str, error: str | None = None, carrier: int | None = None, *, was_sent: bool = False
) -> Said:
    return Said(status, datetime.now(UTC), 1, 7_900, "EUR", error, carrier, was_sent)


async def recovered(
    flow: Flow, told: Mapping[UUID, str | Said] | None = None, *, holds_back: bool = False
) -> tuple[Recovered, dict[UUID, str]]:
    """Recover to now; what was counted, and what was done with each message."""
    plan = await plan_for(flow.pool, datetime.now(UTC), holds_back=holds_back)
    done: dict[UUID, str] = {}
    facts = {id_: one if isinstance(one, Said) else said(one) for id_, one in (told or {}).items()}
    result = await recover(
        flow.pool, plan, facts, BY, lambda id_, word, _: done.update({id_: word}), lambda *_: None
    )
    return result, done


async def test_what_waits_may_have_been_sent_and_each_messages_policy_decides(database: Database) -> None:
    async with open_flow(database) as flow:
        plain, knowing = await flow.carrier(), await flow.carrier(idempotent_submit=True)
        client = await flow.client()
        (cautious,) = await flow.accepted(client, carrier_id=plain)
        (urgent,) = await flow.accepted(client, carrier_id=plain, delivery="at_least_once")
        (known,) = await flow.accepted(client, carrier_id=knowing)
        (claimed,) = await flow.accepted(client, carrier_id=plain, parts=2)
        await flow.claim([claimed], plain)
        (later,) = await flow.accepted(client, send_at=datetime.now(UTC) + timedelta(hours=1))
        _, done = await recovered(flow)
        assert done == {
            cautious: "held_back", urgent: "sent_again", known: "asked_again", claimed: "held_back",
        }  # fmt: skip
        states = [await flow.state(id_) for id_ in (cautious, urgent, known, claimed, later)]
        assert states == ["UNKNOWN", "QUEUED", "QUEUED", "UNKNOWN", "SCHEDULED"]
        assert (await flow.state_row(urgent))["possible_duplicate"]
        assert not (await flow.state_row(known))["possible_duplicate"]
        # The bundle that is still in some stream, or in a worker's hand, is worth nothing.
        assert [c.refusal for c in await flow.claim([urgent, known], plain, dispatch_no=1)] == ["stale"] * 2
        assert (await flow.account(client))["open_holds"] == 5


async def test_a_plan_that_charges_the_submit_is_charged_again_for_what_was_undelivered(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        client = await flow.client()
        submit, delivery = [
            (await flow.accepted(client, charge=charge, carrier_id=carrier))[0]
            for charge in ("submitted", "delivered")
        ]
        await recovered(flow, {submit: "UNDELIVERED", delivery: "UNDELIVERED"})
        assert (await flow.lock(submit))["state"] == "CAPTURED"
        assert (await flow.lock(delivery))["state"] == "RELEASED"


async def test_an_expiry_is_charged_as_it_was_whoever_said_it(database: Database) -> None:
    async with open_flow(database) as flow:
        patient, capturing = await flow.carrier(), await flow.carrier(no_receipt_policy="capture")
        client = await flow.client()
        by_carrier, silent = said("EXPIRED", "expired_by_carrier"), said("EXPIRED", "no_receipt")
        never_sent, sent = said("EXPIRED", "validity_ended"), said("EXPIRED", was_sent=True)
        cases = [
            # the plan, the carrier's policy without a receipt, what was told, what the hold became
            ("delivered", capturing, by_carrier, "RELEASED"),
            ("delivered", capturing, silent, "CAPTURED"),
            ("delivered", patient, silent, "RELEASED"),
            ("delivered", patient, silent._replace(carrier_id=capturing), "CAPTURED"),
            ("delivered", capturing, never_sent, "RELEASED"),
            ("delivered", capturing, said("EXPIRED"), "RELEASED"),
            ("submitted", patient, by_carrier, "CAPTURED"),
            ("submitted", patient, silent, "CAPTURED"),
            ("submitted", patient, sent, "CAPTURED"),
            ("submitted", patient, never_sent, "RELEASED"),
        ]
        told = {}
        for is_sent in (False, True):  # at the restored moment
            for charge, carrier, word, _ in cases[: 6 if is_sent else None]:
                (id_,) = await flow.accepted(client, charge=charge, carrier_id=carrier)
                if is_sent:
                    await flow.submitted([id_], carrier)
                told[id_] = word
        await recovered(flow, told)
        assert {await flow.state(id_) for id_ in told} == {"EXPIRED"}
        wanted = [lock for *_, lock in cases] + [lock for *_, lock in cases[:6]]
        assert [(await flow.lock(id_))["state"] for id_ in told] == wanted
        # Why it ended stays: the proof of the books asks for it, at the end of this test too.
        errors = [(await flow.state_row(id_))["error_code"] for id_ in told]
        assert errors == [word.error or "restored" for word in told.values()]


async def taken_by_a_late_word(flow: Flow, client: int, carrier: int) -> UUID:
    """A message that is being sent again when the first attempt's answer comes."""
    (id_,) = await flow.accepted(client, carrier_id=carrier, delivery="at_least_once", lane="express")
    (first,) = await flow.claim([id_], carrier)
    await flow.later([id_], 66)
    await recover_claims(flow.pool, [id_], TRIES_MAX)
    await flow.later([id_], 2)
    await flow.claim([id_], carrier)
    await flow.record([outcome(id_, first.attempt_no, "submitted")], carrier)
    return id_


async def test_what_a_carrier_has_in_all_its_parts_is_sent(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        sending, waiting, lost = [await taken_by_a_late_word(flow, client, carrier) for _ in range(3)]
        # As versions before this one left it when the second attempt was throttled.
        for left in (
            "update tollwire.attempts set outcome = 'throttled' where message_id = $1 and outcome is null",
            "update tollwire.message_states set state = 'QUEUED' where message_id = $1",
        ):
            await flow.pool.execute(left, waiting)
        await flow.receipt(carrier, f"ref-{lost}-1-1", "undelivered")
        _, done = await recovered(flow)
        assert done == {sending: "sent", waiting: "sent", lost: "held_back"}
        for id_ in (sending, waiting):
            assert (await flow.state(id_), await flow.outbox(id_)) == ("SENT", None)
            settled = await flow.receipt(carrier, f"ref-{id_}-1-1", "delivered")
            assert (settled.outcome, (await flow.lock(id_))["state"]) == ("moved", "CAPTURED")
        open_attempts = "select count(*) from tollwire.attempts where outcome is null"
        assert await flow.pool.fetchval(open_attempts) == 0


async def test_an_operator_may_have_everything_held_back(database: Database) -> None:
    async with open_flow(database) as flow:
        knowing = await flow.carrier(idempotent_submit=True)
        urgent, known = [
            (await flow.accepted(await flow.client(), carrier_id=knowing, delivery=delivery))[0]
            for delivery in ("at_least_once", "at_most_once")
        ]
        result, _ = await recovered(flow, holds_back=True)
        assert (result.held_back, result.sent_again, result.asked_again) == (2, 0, 0)
        await flow.later([urgent, known], 3_601)
        await flow.expire([urgent, known])
        assert [await flow.state(id_) for id_ in (urgent, known)] == ["FAILED_PERM"] * 2
        letters = "select count(*) from tollwire.dead_letters where reason = 'outcome_unknown'"
        assert await flow.pool.fetchval(letters) == 2


async def test_ends_that_were_told_are_made_again_with_their_money(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        ids = await flow.accepted(client, 5, carrier_id=carrier, delivery="at_least_once")
        sent, delivered, undelivered, cancelled, failed = ids
        (waits,) = await flow.accepted(client, carrier_id=carrier)
        await flow.submitted([waits], carrier)
        await flow.claim([failed], carrier)
        gone = new_id()
        told = {
            sent: "SENT", delivered: "DELIVERED", undelivered: "UNDELIVERED", cancelled: "CANCELLED",
            failed: "FAILED_PERM", waits: "DELIVERED", gone: "DELIVERED",
        }  # fmt: skip
        result, done = await recovered(flow, told)
        assert (await flow.state(sent), done[sent]) == ("SENT", "sent")
        ends = [id_ for id_ in told if id_ not in (sent, gone)]
        assert [await flow.state(id_) for id_ in ends] == [told[id_] for id_ in ends]
        assert (result.gone, done[gone]) == ({"DELIVERED": 1}, "gone")
        locks = [(await flow.lock(id_))["state"] for id_ in ids]
        assert locks == ["HELD", "CAPTURED", "RELEASED", "RELEASED", "RELEASED"]
        assert (await flow.lock(waits))["state"] == "CAPTURED"


async def test_a_cancellation_that_was_told_stands_for_what_was_under_way(database: Database) -> None:
    """Nothing of it had left, else it could not have been cancelled: it must not be sent as a dead letter."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        sending, unknown = await flow.accepted(client, 2, carrier_id=carrier, parts=2)
        claims = await flow.claim([sending, unknown], carrier)
        await flow.record(
            [outcome(unknown, claims[1].attempt_no, "uncertain", part=part) for part in (1, 2)], carrier
        )
        assert [await flow.state(id_) for id_ in (sending, unknown)] == ["SENDING", "UNKNOWN"]
        result, _ = await recovered(flow, dict.fromkeys((sending, unknown), "CANCELLED"))
        assert result.ended == {"CANCELLED": 2}
        for id_ in (sending, unknown):
            assert (await flow.state(id_), await flow.outbox(id_)) == ("CANCELLED", None)
            assert (await flow.lock(id_))["state"] == "RELEASED"
        assert await flow.pool.fetchval("select count(*) from tollwire.dead_letters") == 0
        attempts = "select outcome::text, error_code from tollwire.attempts"
        assert {tuple(row) for row in await flow.pool.fetch(attempts)} == {("unclaimed", "restored")}


async def test_the_days_that_nobody_made_since_are_made_first(database: Database) -> None:
    """A week after the moment the database has no partition for today, and no ledger process to make it."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        (waits,) = await accepted_on(flow, days_ago(8), client, carrier_id=carrier)
        await forget_days_to_come(flow)
        await recovered(flow, {waits: "DELIVERED"})
        assert (await flow.state(waits), (await flow.lock(waits))["state"]) == ("DELIVERED", "CAPTURED")
        assert await flow.pool.fetchval("select count(*) from tollwire.callbacks") == 1
        (later,) = await flow.accepted(client)  # the services that are started next
        assert await flow.state(later) == "QUEUED"


async def forget_days_to_come(flow: Flow) -> None:
    """Drop the partitions from today on that nothing is in yet, as before somebody made them."""
    today = await flow.pool.fetchval("select to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD')")
    tables = await flow.pool.fetch(
        """select i.inhrelid::regclass::text from tollwire.partition_rules r
           join pg_inherits i on i.inhparent = r.parent::regclass
           where substring(i.inhrelid::regclass::text from '_([0-9]{8})[ab]?$') >= $1""",
        today,
    )
    for (table,) in tables:
        if not await flow.pool.fetchval(f"select exists (select from {table})"):
            await flow.pool.execute(f"drop table {table}")


async def test_a_recovery_that_was_cut_off_goes_on_and_decides_nothing_twice(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (urgent,) = await flow.accepted(client, carrier_id=carrier, delivery="at_least_once")
        moment = datetime.now(UTC)
        first = await plan_for(flow.pool, moment, holds_back=False)
        await recover(flow.pool, first, {}, BY, lambda *_: None, lambda *_: None)
        await flow.pool.execute("select tollwire.set_watermark_v1('recover', $1)", first.mark)
        again = await plan_for(flow.pool, moment, holds_back=False)
        assert again == first
        result = await recover(flow.pool, again, {}, BY, lambda *_: None, lambda *_: None)
        assert result.sent_again == 0
        assert await flow.state(urgent) == "QUEUED"


async def test_it_refuses_a_database_that_is_in_use_or_newer_than_said(database: Database) -> None:
    async with open_flow(database) as flow:
        await flow.client()
        with pytest.raises(CannotRecover, match="after the moment"):
            await plan_for(flow.pool, datetime.now(UTC) - timedelta(hours=1), holds_back=False)
        async with open_pool(PoolSettings(database.dsn("api")), application_name="tollwire-api"):
            with pytest.raises(CannotRecover, match="tollwire-api still run"):
                await plan_for(flow.pool, datetime.now(UTC), holds_back=False)


async def test_what_is_decided_stands_in_the_list_also_when_the_databases_answer_is_lost(
    database: Database,
) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier()
        (urgent,) = await flow.accepted(client, carrier_id=carrier, delivery="at_least_once")
        (cautious,) = await flow.accepted(client, carrier_id=carrier)
        (delivered,) = await flow.accepted(client, carrier_id=carrier)
        (later,) = await flow.accepted(client, send_at=datetime.now(UTC) + timedelta(hours=1))
        async with (
            open_proxy(database.dsn("ledger")) as (proxy, dsn),
            open_pool(PoolSettings(dsn), application_name="test") as pool,
        ):
            proxy.break_instead_of_answering(later.bytes)
            healed = asyncio.create_task(back_again(proxy))
            result, done = await recovered(Flow(pool), {delivered: "DELIVERED"})
            await healed
        assert done == {urgent: "sent_again", cautious: "held_back", delivered: "ended"}
        assert (result.ended, result.sent_again, result.held_back) == ({"DELIVERED": 1}, 1, 1)


async def back_again(proxy: Proxy) -> None:
    await proxy.is_gone.wait()
    proxy.heal()
