"""A claim or a record of many messages does and answers what calls for each of them do (RULES 5).

Two worlds go the same random way. Then the one is claimed and recorded in whole flushes, and the other a
message at a time, each beside one that there is not: ordinary flushes are worked off by columns, odd ones by
rows.
"""

import random
from typing import Any, Final
from uuid import UUID

import pytest

from tests.support.flow import Flow, accept_item, new_id, open_flow, outcome
from tests.support.long import LONG
from tests.support.servers import Database

WORDS: Final = (
    "submitted",
    "submitted",
    "refused_temp",
    "refused_perm",
    "uncertain",
    "throttled",
    "unclaimed",
)
NUMBER: Final = 24
SEEDS: Final = range(200 if LONG else 12)
VALID_SECONDS: Final = 600
ROW = """
    select s.state::text, s.attempt_no, s.tries, s.sequence, s.possible_duplicate, s.parts_total,
           s.error_code, s.claim_deadline is null, s.submitted_at is null, l.state::text, o.dispatch_no,
           o.due_at <= clock_timestamp(), a.held_micros, a.posted_micros, a.version,
           (select array_agg((t.attempt_no, t.part_no, t.outcome, t.reference is null)::text
                             order by t.attempt_no, t.part_no)
            from tollwire.attempts t where t.message_id = s.message_id),
           (select count(*) from tollwire.carrier_references f where f.message_id = s.message_id),
           (select count(*) from tollwire.callbacks c where c.message_id = s.message_id)
    from unnest($1::uuid[]) with ordinality x(id, nth)
    join tollwire.message_states s on s.message_id = x.id
    join ledger.credit_locks l on l.message_id = x.id
    join ledger.accounts a on a.id = l.account_id
    left join tollwire.outbox o on o.message_id = x.id
    order by x.nth
"""


class World:
    """Messages of three clients: of the two plans, and one who asks to be told of each submit."""

    def __init__(self, flow: Flow, carrier: int, seed: int, *strangers: UUID) -> None:
        self.flow = flow
        self.carrier = carrier
        self.strangers = strangers
        self.chance = random.Random(seed)
        # An ordinary flush is claimed as a whole; one odd message makes it another.
        self.is_odd = self.chance.random() < 0.5

    async def prepare(self) -> None:
        """Accept messages, and let some of them go a part of the way."""
        flow, chance = self.flow, self.chance
        clients = [await flow.client() for _ in range(3)]
        await flow.endpoint(clients[2], events=["message.sent"])
        items = [
            accept_item(
                clients[n % 3], message_id=new_id(), carrier_id=self.carrier, valid_seconds=VALID_SECONDS,
                charge=("delivered", "submitted", "delivered")[n % 3],
                delivery=chance.choice(("at_most_once", "at_least_once")),
                parts=chance.choice((1, 1, 1, 2)) if self.is_odd else 1,
            )
            for n in range(NUMBER)
        ]  # fmt: skip
        await flow.accept(items)
        self.ids = [item.message_id for item in items]
        words = WORDS if self.is_odd else ("refused_temp",)
        for _ in range(chance.randrange(3)):
            some = chance.sample(self.ids, chance.randrange(1, NUMBER // 2))
            claims = await flow.claim(some, self.carrier)
            won = [(id_, claim) for id_, claim in zip(some, claims, strict=True) if claim.refusal is None]
            for id_, claim in won[: chance.randrange(len(won) + 1) if self.is_odd else None]:
                word = chance.choice(words)
                await flow.record(
                    [self.line(id_, claim.attempt_no, word, part) for part in claim.parts or ()], self.carrier
                )
        if self.is_odd:
            await flow.later([chance.choice(self.ids)], VALID_SECONDS + 1)

    def line(self, message: UUID, attempt: int, word: str, part: int) -> Any:
        return outcome(message, attempt, word, part=part, retry_seconds=0.0)

    def order(self) -> list[int]:
        """The messages that the flush is about, in whatever order."""
        return self.chance.sample(range(NUMBER), self.chance.randrange(1, NUMBER + 1))

    async def claim(self, groups: list[list[int]]) -> list[Any]:
        claims = []
        for group in groups:
            ids = [self.ids[n] for n in group]
            claims += (await self.flow.claim([*ids, *self.strangers], self.carrier))[: len(group)]
        return [(c.refusal, c.attempt_no, c.tries, c.parts, c.msisdn, c.delivery) for c in claims]

    async def record(self, groups: list[list[tuple[int, int, str, int]]], *, asks: bool) -> list[Any]:
        recorded = []
        for group in groups:
            lines = [self.line(self.ids[n], attempt, word, part) for n, attempt, word, part in group]
            lines += [self.line(id_, 1, "submitted", 1) for id_ in self.strangers]
            recorded += (await self.flow.record(lines, self.carrier, may_ask_again=asks))[: len(group)]
        return [(r.moved, r.state, r.receipt_ids) for r in recorded]

    async def rows(self) -> list[Any]:
        return [tuple(row) for row in await self.flow.pool.fetch(ROW, self.ids)]

    async def attempts(self) -> list[tuple[int, int, int]]:
        """(message, attempt, part) of every attempt there is, the last ones first, one a message."""
        sql = """
            select distinct on (t.message_id) t.message_id, t.attempt_no, t.part_no from tollwire.attempts t
            where t.message_id = any ($1) order by t.message_id, t.attempt_no desc, t.part_no
        """
        places = {id_: n for n, id_ in enumerate(self.ids)}
        return sorted((places[row[0]], row[1], row[2]) for row in await self.flow.pool.fetch(sql, self.ids))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_flush_is_as_single_calls(database: Database, seed: int) -> None:
    async with open_flow(database) as flow:
        asks = bool(seed % 2)
        carrier = await flow.carrier(idempotent_submit=asks)
        whole, single = World(flow, carrier, seed), World(flow, carrier, seed, new_id())
        for world in (whole, single):
            await world.prepare()
        order = whole.order()
        assert await whole.claim([order]) == await single.claim([[n] for n in order])
        assert await whole.rows() == await single.rows()
        attempts = await whole.attempts()
        assert attempts == await single.attempts()
        lines = [(n, attempt, whole.chance.choice(WORDS), part) for n, attempt, part in attempts]
        whole.chance.shuffle(lines)
        in_one = await whole.record([lines], asks=asks)
        assert in_one == await single.record([[line] for line in lines], asks=asks)
        assert await whole.rows() == await single.rows()
