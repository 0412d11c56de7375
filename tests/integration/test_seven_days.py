"""A late receipt takes money within seven days of the submit, and not later (RULES 23)."""

import pytest

from tests.support.flow import MSISDN, Flow, open_flow, outcome
from tests.support.servers import Database

LAST_DAY = 8


async def days_pass(flow: Flow, days: int) -> None:
    """Let days pass for what was submitted, as far as it is known."""
    for table, moment in (("attempts", "claimed_at"), ("carrier_references", "submitted_at")):
        await flow.pool.execute(
            f"update tollwire.{table} set {moment} = {moment} - make_interval(days => $1)", days
        )


@pytest.mark.parametrize(
    ("heard_on", "delivered_on", "then"), [(1, 6, "late_capture"), (6, LAST_DAY, "waiting")]
)
async def test_they_count_from_the_submit_where_its_answer_was_lost(
    database: Database, heard_on: int, delivered_on: int, then: str
) -> None:
    """A word that the carrier has it is no second submit, with seven days of its own."""
    async with open_flow(database) as flow:
        await flow.pool.execute(
            "select tollwire.make_partitions_v1(current_date - $1::integer, current_date)", LAST_DAY
        )
        carrier, client = await flow.carrier(), await flow.client()
        (message,) = await flow.accepted(client, delivery="at_most_once")
        (claim,) = await flow.claim([message], carrier)
        await flow.record([outcome(message, claim.attempt_no or 0, "uncertain")], carrier)
        await flow.later([message], 2 * 3_600)
        await flow.expire([message])
        assert await flow.state(message) == "FAILED_PERM"
        await days_pass(flow, heard_on)
        heard = await flow.receipt(carrier, "named", "enroute", msisdn=MSISDN, echo_message_id=message)
        assert heard.outcome == "noted"
        await days_pass(flow, delivered_on - heard_on)
        told = await flow.receipt(carrier, "named", "delivered", msisdn=MSISDN)
        echoed = await flow.receipt(carrier, "named", "delivered", msisdn=MSISDN, echo_message_id=message)
        is_taken = delivered_on < LAST_DAY
        assert (told.outcome, echoed.outcome) == (then, "repeated" if is_taken else then)
        taken = ["late_capture"] if is_taken else []
        assert await flow.kinds(client) == ["top_up", "hold", "release", *taken]
