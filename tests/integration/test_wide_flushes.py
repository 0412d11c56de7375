"""A flush of messages that were accepted far apart reads nothing of what lies between them."""

from uuid import UUID

from tests.integration.test_hot_plans import LEFT_OUT, explained
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database

EVENTS = ["message.sent", "message.delivered"]
FEW = 3
BETWEEN = 400


async def far_apart(flow: Flow, client: int) -> tuple[list[UUID], list[UUID], list[UUID]]:
    """Few messages that came early, many, and few that came late."""
    early = await flow.accepted(client, FEW)
    between = await flow.accepted(client, BETWEEN)
    return early, between, await flow.accepted(client, FEW)


def most_left_out(plans: list[str], word: str) -> int:
    """How many rows a node read and left out, in the statements that have the word."""
    told = [plan for plan in plans if word in plan]
    assert told
    return max(map(int, LEFT_OUT.findall("\n".join(told))), default=0)


async def test_ends_overtake_what_nobody_has_begun_to_tell(database: Database) -> None:
    """Each end went through all callbacks between the first and the last: their plan was made for few."""
    async with open_flow(database) as flow:
        carrier, client = await flow.carrier(), await flow.client()
        await flow.endpoint(client, events=EVENTS)
        early, _, late = [await flow.submitted(ids, carrier) for ids in await far_apart(flow, client)]
        await flow.pool.execute("analyze")
        receipts = [await flow.receive(carrier, reference, "delivered") for reference in early + late]
    async with explained(database) as (flow, plans):
        settled = await flow.settle(receipts)
        assert {one.told.skip for one in settled} == {None}
    assert most_left_out(plans, "superseded") <= len(receipts) ** 2


async def test_answers_of_a_carrier_that_is_asked_again_count(database: Database) -> None:
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier(idempotent_submit=True)
        early, between, late = await far_apart(flow, client)
        few = early + late
        for ids in (few, between):
            await flow.claim(ids, carrier)
        lost = [outcome(id_, 1, "uncertain", retry_seconds=0.0) for id_ in few + between]
        await flow.record(lost, carrier, may_ask_again=True)
        await flow.claim(few, carrier)
        await flow.pool.execute("analyze")
    async with explained(database) as (flow, plans):
        taken = [outcome(id_, 2, "submitted") for id_ in few]
        recorded = await flow.record(taken, carrier, may_ask_again=True)
        assert {one.state for one in recorded} == {"SENT"}
    assert most_left_out(plans, "a.attempt_no < n.attempt_no") <= len(few) ** 2
