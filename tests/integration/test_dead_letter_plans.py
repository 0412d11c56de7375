"""A page of dead letters looks each of its letters up, and nothing else, however many messages there are."""

import re
from typing import cast

from api.admin_reads import LIST_DEAD_LETTERS, SCAN_MAX
from api.cursors import LAST_ID
from api.store import AcceptAnswer
from ledger.dead_letters import LETTERS_MAX, DeadLetters
from shared.runtime.jetstream import JetStream
from tests.integration.test_hot_plans import explained, fill, whole_scans
from tests.support.flow import Flow, accept_item, open_flow, outcome
from tests.support.servers import Database

LETTERS = 1_000
PAGE = 50
# A table's part, how many of its rows a look-up found, and how many look-ups there were.
LOOKED_UP = re.compile(r"on (messages|message_states|credit_locks)_\d+ .*actual rows=([\d.]+) loops=(\d+)")


async def bury(flow: Flow, carrier: int) -> None:
    """Let a carrier refuse a thousand of the messages that wait for good."""
    waiting = "select message_id from tollwire.outbox order by message_id desc limit $1"
    ids = [row[0] for row in await flow.pool.fetch(waiting, LETTERS)]
    await flow.claim(ids, carrier)
    await flow.record([outcome(id_, 1, "refused_perm", error="blocked") for id_ in ids], carrier)
    await flow.pool.execute("analyze")


async def test_a_page_of_dead_letters_looks_its_own_messages_up(database: Database) -> None:
    async with open_flow(database) as flow:
        _, carrier = await fill(flow)
        await bury(flow, carrier)
    async with explained(database) as (flow, plans):
        for mode in ("force_custom_plan", "force_generic_plan"):
            await flow.pool.execute(f"set plan_cache_mode = {mode}")
            for client, reason in ((None, None), (None, "blocked"), ("nobody", None)):
                plans.clear()
                rows = await flow.pool.fetch(LIST_DEAD_LETTERS, LAST_ID, client, reason, PAGE, SCAN_MAX)
                assert len(rows) == (0 if client else PAGE)
                said = "\n".join(plans)
                assert not whole_scans(said), said
                looked_up = [int(loops) for _, _, loops in LOOKED_UP.findall(said)]
                assert sum(looked_up) <= 4 * PAGE, said
                assert bool(looked_up) == (client is None), said


async def test_a_replay_among_others_goes_their_way_unless_it_was_delivered(database: Database) -> None:
    async with explained(database) as (flow, plans):
        client, carrier = await flow.client(), await flow.carrier()
        letters = await flow.accepted(client, 2)
        await flow.claim(letters, carrier)
        await flow.record([outcome(id_, 1, "refused_perm", error="blocked") for id_ in letters], carrier)

        async def flush(number: int) -> tuple[list[AcceptAnswer], bool]:
            """Accept replays and an ordinary message; whether what is there twice was looked for."""
            replays = [accept_item(client, key=f"{x} {number}", item=number, replay_of=x) for x in letters]
            plans.clear()
            answers = await flow.accept([*replays, accept_item(client, key=f"ordinary {number}")])
            return answers, "WindowAgg" in "\n".join(plans)

        first, was_long = await flush(1)
        assert ([answer.outcome for answer in first], was_long) == (["accepted"] * 3, False)
        (reference,) = await flow.submitted([first[0].message_id], carrier)
        await flow.receipt(carrier, reference, "delivered")
        second, was_long = await flush(2)
        assert ([answer.outcome for answer in second], was_long) == (
            ["refused", "accepted", "accepted"],
            True,
        )


# As above, and attempts: how often each was looked up.
LOOKED_UP_TO_TELL = re.compile(
    r"on (messages|message_states|attempts|dead_letters)(?:_\d+)? .*actual rows=([\d.]+) loops=(\d+)"
)


async def test_letters_that_are_told_are_looked_up_and_nothing_else(database: Database) -> None:
    async with open_flow(database) as flow:
        _, carrier = await fill(flow)
        await bury(flow, carrier)
    async with explained(database) as (flow, plans):
        letters = DeadLetters(flow.pool, cast("JetStream", None))
        for mode in ("force_custom_plan", "force_generic_plan"):
            await flow.pool.execute(f"set plan_cache_mode = {mode}")
            plans.clear()
            untold = await letters._untold()
            assert {(one.outcome, one.is_test) for one in untold} == {("refused_perm", False)}
            said = "\n".join(plans)
            assert not whole_scans(said), said
            looked_up = [int(loops) for _, _, loops in LOOKED_UP_TO_TELL.findall(said)]
            assert len(untold) == LETTERS_MAX
            assert sum(looked_up) <= 5 * LETTERS_MAX, said
