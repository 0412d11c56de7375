"""A hold ends once: whatever is asked of it after its end moves nothing (RULES 23)."""

from uuid import UUID

import pytest

from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

SETTLE = """
    select count(*) from ledger.settle_holds_v1(array[$1::uuid], array[$2::ledger.entry_kind], array['asked'])
"""
ACCOUNT = """
    select a.posted_micros, a.held_micros, a.open_holds, a.version, a.chain_head, l.state, l.resolved_at,
           l.late_captured_at, (select count(*) from ledger.entries e where e.account_id = a.id)
    from ledger.accounts a join ledger.credit_locks l on l.account_id = a.id
    where l.message_id = $1
"""


async def _books(flow: Flow, message: UUID) -> tuple[object, ...]:
    return tuple(await flow.row(ACCOUNT, message))


@pytest.mark.parametrize(
    ("ends", "then"),
    [
        (["capture"], "release"),
        (["capture"], "capture"),
        (["capture"], "late_capture"),
        (["release"], "capture"),
        (["release"], "release"),
        (["release", "late_capture"], "late_capture"),
        (["release", "late_capture"], "release"),
        ([], "late_capture"),
    ],
)
async def test_a_hold_that_has_ended_does_not_end_again(
    database: Database, ends: list[str], then: str
) -> None:
    # The messages stay where they were: the books are right by themselves, and differ from the states.
    database.is_corrupted_on_purpose()
    async with open_flow(database) as flow:
        client = await flow.client()
        # Another hold is open, so that the account has what a second end would take.
        message, _ = await flow.accepted(client, 2)
        for kind in ends:
            assert await flow.pool.fetchval(SETTLE, message, kind) == 1
        before = await _books(flow, message)
        assert await flow.pool.fetchval(SETTLE, message, then) == 0
        assert await _books(flow, message) == before
