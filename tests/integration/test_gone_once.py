"""possible_duplicate: the phone may have it twice. Not of what was marked to go again, and did not."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from ledger import recover_store
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database

LOST: Final[dict[str, Any]] = {"retry_seconds": 0.0, "error": "timeout"}


async def marked(flow: Flow, carrier: int, parts: int = 1) -> UUID:
    """A message that waits to go once more, since its answers were lost."""
    (message,) = await flow.accepted(
        await flow.client(), delivery="at_least_once", parts=parts, segments=parts, carrier_id=carrier
    )
    await flow.claim([message], carrier)
    await flow.record([outcome(message, 1, "uncertain", part=n + 1, **LOST) for n in range(parts)], carrier)
    assert await is_marked(flow, message)
    return message


async def is_marked(flow: Flow, message: UUID) -> bool:
    """Whether its client is told that it may have come twice."""
    return bool((await flow.state_row(message))["possible_duplicate"])


async def test_what_receipts_show_to_have_gone_once_is_unmarked(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        for word, state in (("enroute", "SENT"), ("delivered", "DELIVERED")):
            message = await marked(flow, carrier)
            settled = await flow.receipt(carrier, f"of {message}", word, echo_message_id=message)
            assert (await flow.state(message), settled.state) == (state, state)
            assert not await is_marked(flow, message)
            assert not settled.told.is_possible_duplicate


@pytest.mark.parametrize("second_word", [None, "refused_temp", "throttled", "unclaimed"])
async def test_a_late_answer_unmarks_what_nothing_followed(
    database: Database, second_word: str | None
) -> None:
    """What was written to nobody has not gone; of what was refused, nobody is quite sure."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await marked(flow, carrier)
        if second_word is not None:
            await flow.claim([message], carrier)
            await flow.record([outcome(message, 2, second_word)], carrier)
        assert await flow.state(message) in ("QUEUED", "FAILED_TEMP")
        assert await is_marked(flow, message), "until it is SENT it goes again once, and no more"
        await flow.record([outcome(message, 1, "submitted")], carrier)
        assert await flow.state(message) == "SENT"
        assert await is_marked(flow, message) == (second_word in ("refused_temp", "throttled"))


async def test_a_second_submit_of_what_was_never_written_is_the_first(database: Database) -> None:
    """Its worker hung, and said after its claim was taken from it that it had not begun."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await marked(flow, carrier)
        await flow.record([outcome(message, 1, "unclaimed")], carrier)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "submitted")], carrier)
        assert (await flow.state(message), await is_marked(flow, message)) == ("SENT", False)


async def test_what_went_twice_stays_marked(database: Database) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await marked(flow, carrier)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "uncertain")], carrier)
        await flow.receipt(carrier, "first", "enroute", echo_message_id=message, echo_attempt_no=1)
        assert (await flow.state(message), await is_marked(flow, message)) == ("SENT", True)
        await flow.receipt(carrier, "first", "delivered")
        assert (await flow.state(message), await is_marked(flow, message)) == ("DELIVERED", True)


async def test_a_part_that_was_lost_goes_again_once(database: Database) -> None:
    """The mark is what keeps it from a third try: it stays until all parts are there."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        message = await marked(flow, carrier, parts=2)
        await flow.receipt(carrier, "part 1", "enroute", echo_message_id=message, part_no=1)
        assert (await flow.state(message), await is_marked(flow, message)) == ("QUEUED", True)
        await flow.claim([message], carrier)
        await flow.record([outcome(message, 2, "uncertain", part=2, **LOST)], carrier)
        assert (await flow.state(message), await is_marked(flow, message)) == ("UNKNOWN", True)


async def test_what_went_since_a_restored_moment_stays_marked(database: Database) -> None:
    """How often that was, nobody knows."""
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        (message,) = await flow.accepted(await flow.client(), delivery="at_least_once", carrier_id=carrier)
        now = datetime.now(UTC) + timedelta(minutes=1)
        (decided,) = await recover_store.decide(
            flow.pool, [(message, None)], began=now, until=now, holds_back=False
        )
        assert (decided.after, decided.is_possible_duplicate) == ("QUEUED", True)
        await flow.receipt(carrier, "restored", "enroute", echo_message_id=message)
        assert (await flow.state(message), await is_marked(flow, message)) == ("SENT", True)
