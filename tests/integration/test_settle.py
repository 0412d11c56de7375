"""settle_batch_v1: receipts find their messages, move them once, and move their money once."""

import asyncio
from datetime import timedelta
from uuid import UUID

from tests.support.flow import MSISDN, PRICE_MICROS, Flow, new_id, open_flow, outcome
from tests.support.servers import Database

DAY_SECONDS = 86_400


async def one_sent(flow: Flow, carrier: int, **columns: object) -> tuple[int, UUID, str]:
    """A client, its message at the carrier, and the reference."""
    client = await flow.client(**columns)  # type: ignore[arg-type] # columns of tollwire.clients
    (message,) = await flow.accepted(client)
    (reference,) = await flow.submitted([message], carrier)
    return client, message, reference


async def test_a_delivered_message_is_captured_once_and_called_back_once(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        client, message, reference = await one_sent(flow, carrier)
        await flow.endpoint(client)
        receipts = [await flow.receive(carrier, reference, "delivered") for _ in range(3)]
        settled = await flow.settle(receipts)
        assert [s.outcome for s in settled] == ["moved", "repeated", "repeated"]
        assert (settled[0].message_id, settled[0].client_id) == (message, client)
        assert [s.outcome for s in await flow.settle([*receipts, receipts[0]])] == ["done"] * 4
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]
        rows = await flow.pool.fetch("select id, event_type from tollwire.callbacks")
        assert [tuple(row) for row in rows] == [(settled[0].callback_id, "message.delivered")]


async def test_the_same_receipt_twice_in_a_call_is_settled_once(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, _, reference = await one_sent(flow, carrier)
        receipt = await flow.receive(carrier, reference, "delivered")
        assert [s.outcome for s in await flow.settle([receipt, receipt])] == ["moved", "done"]


async def test_rival_settlers_capture_once(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        messages = await flow.accepted(client, 30)
        references = await flow.submitted(messages, carrier)
        receipts = [await flow.receive(carrier, reference, "delivered") for reference in references]
        calls = await asyncio.gather(*(flow.settle(receipts) for _ in range(5)))
        assert sorted(s.outcome for call in calls for s in call) == ["done"] * 120 + ["moved"] * 30
        account = await flow.account(client)
        assert (account["held_micros"], account["open_holds"], account["version"]) == (0, 0, 61)


async def test_a_plan_that_charges_the_submit_does_not_ask_what_came_first(database: Database) -> None:
    """The receipt may be settled before the answer to the submit is recorded, or that answer be lost."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        books = set()
        for word in ("enroute", "undelivered", "expired", "delivered"):
            for said in (("receipt", "answer"), ("answer", "receipt"), ("receipt",)):
                client = await flow.client()
                (message,) = await flow.accepted(client, charge="submitted")
                await flow.claim([message], carrier)
                line = outcome(message, 1, "submitted")
                for each in said:
                    if each == "answer":
                        await flow.record([line], carrier)
                    else:
                        await flow.receipt(carrier, str(line.reference), word, echo_message_id=message)
                lock = await flow.lock(message)
                books.add((lock["state"], lock["reason"], *await flow.kinds(client)))
        assert books == {("CAPTURED", "submitted", "top_up", "hold", "capture")}


async def test_a_submit_whose_outcome_was_unknown_is_charged_by_its_receipt(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client)
        (message,) = await flow.accepted(client, charge="submitted")
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 1, "uncertain")], carrier)
        assert await flow.state(message) == "UNKNOWN"
        settled = await flow.receipt(carrier, "lost", "undelivered", echo_message_id=message)
        assert (settled.state, settled.told.is_charged) == ("UNDELIVERED", True)
        assert (await flow.lock(message))["state"] == "CAPTURED"


async def test_the_end_of_what_waits_to_be_asked_again_is_believed(database: Database) -> None:
    """A carrier that knows the id would not send it again: its last word ends the message at any moment."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier(idempotent_submit=True, no_receipt_policy="capture")
        for is_claimed in (False, True):
            client = await flow.client()
            (message,) = await flow.accepted(client)
            await flow.claim([message], carrier)
            line = outcome(message, 1, "uncertain", retry_seconds=0.0)
            await flow.record([line], carrier, may_ask_again=True)
            if is_claimed:
                await flow.claim([message], carrier)
            settled = await flow.receipt(
                carrier, f"same {is_claimed}", "undelivered", echo_message_id=message, echo_attempt_no=1
            )
            assert (settled.outcome, settled.state) == ("moved", "UNDELIVERED")
            assert (await flow.lock(message))["state"] == "RELEASED"
            assert await flow.outbox(message) is None


async def test_one_name_for_two_parts_is_not_taken_for_a_third(database: Database) -> None:
    """Our own id leads to the only part that is on its way; the carrier's name says that it is another."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=3, segments=3)
        await flow.claim([message], carrier)
        lines = [outcome(message, 1, "submitted", part=part, reference="both") for part in (1, 2)]
        await flow.record([*lines, outcome(message, 1, "unclaimed", part=3)], carrier)
        await flow.claim([message], carrier)
        settled = await flow.receipt(carrier, "both", "undelivered", echo_message_id=message)
        assert settled.outcome == "ambiguous"


async def test_what_a_carrier_rejected_was_never_submitted(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, charge="submitted")
        await flow.claim([message], carrier)
        await flow.receipt(carrier, "refused", "rejected", echo_message_id=message)
        assert (await flow.lock(message))["state"] == "RELEASED"


async def test_a_submit_in_parts_is_charged_when_every_part_was_taken(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, charge="submitted", parts=2, segments=2)
        await flow.claim([message], carrier)
        for part, lock in ((1, "HELD"), (2, "CAPTURED")):
            await flow.receipt(carrier, f"part {part}", "undelivered", echo_message_id=message, part_no=part)
            assert (await flow.lock(message))["state"] == lock


async def test_an_undelivered_message_is_released(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for word, state in (
            ("undelivered", "UNDELIVERED"),
            ("rejected", "UNDELIVERED"),
            ("expired", "EXPIRED"),
        ):
            client, message, reference = await one_sent(flow, carrier)
            assert (await flow.receipt(carrier, reference, "enroute")).outcome == "noted"
            assert (await flow.receipt(carrier, reference, word)).state == state
            assert (await flow.lock(message))["state"] == "RELEASED"
            assert (await flow.account(client))["held_micros"] == 0


async def test_a_late_receipt_captures_once(database: Database) -> None:
    """RULES 23, also where nothing is left: the account goes below zero and a top-up lowers that first."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        client = await flow.client(PRICE_MICROS)
        await flow.endpoint(client)
        (message,) = await flow.accepted(client)
        (reference,) = await flow.submitted([message], carrier)
        await flow.later([message], 4 * DAY_SECONDS)
        await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [message])
        assert await flow.state(message) == "EXPIRED"
        (rival,) = await flow.accepted(client)
        settled = await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)
        assert settled.outcome == "late_capture"
        assert (await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)).outcome == "repeated"
        assert await flow.state(message) == "EXPIRED"
        assert (await flow.state_row(message))["late_receipt"]
        account = await flow.account(client)
        assert (account["posted_micros"], account["held_micros"]) == (0, PRICE_MICROS)
        assert account["overdrawn_micros"] == PRICE_MICROS
        await flow.credit(client, "top_up", 1_000, "some")
        assert (await flow.account(client))["overdrawn_micros"] == PRICE_MICROS - 1_000
        await flow.cancel(client, [rival])
        assert (await flow.account(client))["overdrawn_micros"] == 0
        sql = "select event_type from tollwire.callbacks where message_id = $1 order by sequence"
        events = [row[0] for row in await flow.pool.fetch(sql, message)]
        assert events == ["message.expired", "message.late_receipt"]


async def test_a_receipt_is_late_without_capture_after_7_days_or_by_plan(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for columns, days in (({}, 8), ({"waive_late_capture": True}, 4)):
            client, message, reference = await one_sent(flow, carrier, **columns)
            await flow.later([message], days * DAY_SECONDS)
            await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [message])
            assert (await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)).outcome == "late"
            assert await flow.kinds(client) == ["top_up", "hold", "release"]


async def test_no_receipt_may_mean_capture(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier(no_receipt_policy="capture")
        client, message, reference = await one_sent(flow, carrier)
        await flow.later([message], 4 * DAY_SECONDS)
        await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [message])
        lock = await flow.lock(message)
        assert (await flow.state(message), lock["state"], lock["reason"]) == (
            "EXPIRED",
            "CAPTURED",
            "no_receipt",
        )
        assert (await flow.receipt(carrier, reference, "delivered", msisdn=MSISDN)).outcome == "late"
        assert await flow.kinds(client) == ["top_up", "hold", "capture"]


async def test_a_receipt_before_its_reference_waits_and_is_matched(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client)
        early = await flow.receive(carrier, f"ref-{message}-1-1", "delivered")
        (waiting,) = await flow.settle([early])
        assert (waiting.outcome, waiting.message_id) == ("waiting", None)
        row = await flow.row("select * from tollwire.receipts where id = $1", early)
        assert row["settled_at"] is None
        assert row["due_at"] > row["received_at"]
        await flow.submitted([message], carrier)
        assert [s.outcome for s in await flow.settle([early])] == ["moved"]


async def test_a_receipt_nobody_waits_for_is_given_up_after_its_time(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        receipt = await flow.receive(carrier, "unheard of", "delivered")
        await flow.pool.execute(
            "update tollwire.receipts set received_at = received_at - interval '97 hours'"
        )
        assert [s.outcome for s in await flow.settle([receipt])] == ["unmatched"]
        assert [s.outcome for s in await flow.settle([receipt])] == ["done"]


async def test_another_carriers_message_is_never_matched(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, other = await flow.carrier(), await flow.carrier()
        _, message, reference = await one_sent(flow, carrier)
        assert (await flow.receipt(other, reference, "delivered")).outcome == "waiting"
        assert await flow.state(message) == "SENT"


async def same_reference(flow: Flow, carrier: int, *numbers: str) -> list[UUID]:
    """Messages to these numbers that the carrier gave one reference."""
    ids = [(await flow.accepted(await flow.client(), msisdn=number))[0] for number in numbers]
    references = await flow.submitted(ids, carrier)
    for table in ("tollwire.carrier_references", "tollwire.attempts"):
        await flow.pool.execute(
            f"update {table} set reference = 'same' where reference = any ($1)", references
        )
    return ids


async def test_an_ambiguous_receipt_is_kept_and_never_guessed(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        ids = await same_reference(flow, carrier, "+4915112345678", "+4915112345678")
        assert (await flow.receipt(carrier, "same", "delivered")).outcome == "ambiguous"
        assert [await flow.state(message) for message in ids] == ["SENT", "SENT"]


async def test_the_number_tells_apart_what_the_reference_does_not(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        first, second = await same_reference(flow, carrier, "+4915112345678", "+4915112345679")
        settled = await flow.receipt(carrier, "same", "delivered", msisdn="+4915112345679")
        assert (settled.outcome, settled.message_id) == ("moved", second)
        assert (await flow.receipt(carrier, "same", "delivered", msisdn="+491511234")).outcome == "waiting"
        assert (await flow.receipt(carrier, "same", "delivered")).message_id == first


async def test_a_reference_is_forgotten_after_7_days(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, reference = await one_sent(flow, carrier)
        receipt = await flow.receive(carrier, reference, "delivered")
        await flow.pool.execute("update tollwire.receipts set received_at = received_at + interval '8 days'")
        assert [s.outcome for s in await flow.settle([receipt])] == ["waiting"]
        assert await flow.state(message) == "SENT"


async def test_an_intermediate_report_beside_the_final_one_decides_nothing(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, message, reference = await one_sent(flow, carrier)
        receipts = [
            await flow.receive(carrier, reference, word) for word in ("enroute", "delivered", "accepted")
        ]
        assert [s.outcome for s in await flow.settle(receipts)] == ["noted", "moved", "repeated"]
        assert await flow.state(message) == "DELIVERED"


async def test_receipts_are_leased_again_when_their_settler_died(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        _, _, reference = await one_sent(flow, carrier)
        receipt = await flow.receive(carrier, reference, "delivered")
        lease = "select * from tollwire.lease_receipts_v1(10, 30)"
        assert await flow.pool.fetch(lease) == []
        await flow.pool.execute("update tollwire.receipts set due_at = clock_timestamp()")
        assert [row[0] for row in await flow.pool.fetch(lease)] == [receipt]
        assert await flow.pool.fetch(lease) == []
        due = await flow.row("select due_at - clock_timestamp() as left from tollwire.receipts")
        assert timedelta(seconds=20) < due["left"] <= timedelta(seconds=30)


async def test_an_unknown_receipt_id_is_no_error(database: Database) -> None:
    async with open_flow(database) as flow:
        (settled,) = await flow.settle([new_id()])
        assert settled.message_id is None


async def test_a_repeated_receipt_leads_to_no_other_part(database: Database) -> None:
    """Found by simulation, seed 11: the id that it echoed led it to a part that was still open."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2)
        _, second = await flow.submitted([message], carrier)
        for outcome in ("noted", "repeated"):
            settled = await flow.receipt(carrier, second, "delivered", echo_message_id=message)
            assert settled.outcome == outcome
        assert await flow.state(message) == "SENT"


async def test_an_echoed_id_does_not_say_which_of_several_parts(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, parts=2, segments=2)
        await flow.claim([message], carrier)
        settled = await flow.receipt(carrier, "unheard of", "delivered", echo_message_id=message)
        assert settled.outcome == "waiting"
        named = await flow.receipt(carrier, "unheard of", "delivered", echo_message_id=message, part_no=2)
        assert (named.outcome, named.message_id) == ("noted", message)
