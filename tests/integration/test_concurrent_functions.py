"""Functions that meet on the same messages never wait for each other crosswise (RULES 3), and a call that
is made again after a lost answer changes nothing (RULES 4)."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from itertools import combinations_with_replacement
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from dlr import store as dlr_store
from dlr.store import ReceivedReceipt
from ledger import clockwork_store
from shared.runtime import metrics
from tests.support.flow import LEASE_SECONDS, Flow, accept_item, open_flow, outcome
from tests.support.long import LONG
from tests.support.servers import Database
from worker import store as worker_store
from worker.store import Outcome

ROUNDS_SECONDS = 120.0 if LONG else 8.0
Action = Callable[[], Awaitable[Any]]


class Meeting:
    """Messages in every state, and each function on all of them in an order of its own."""

    def __init__(self, flow: Flow, chance: random.Random) -> None:
        self.flow = flow
        self.chance = chance

    async def prepare(self) -> None:
        """Make clients, and messages of theirs that wait, are claimed, are sent, and are late."""
        flow = self.flow
        self.carriers = [await flow.carrier(no_receipt_seconds=60) for _ in range(2)]
        self.clients = [await flow.client() for _ in range(4)]
        self.items = [
            accept_item(client, key=f"key-{n}", carrier_id=self.carriers[0], charge=charge, valid_seconds=60)
            for n in range(6)
            for client, charge in zip(self.clients, ("delivered", "submitted") * 2, strict=True)
        ]
        self.chance.shuffle(self.items)
        await flow.accept(self.items)
        self.ids = [item.message_id for item in self.items]
        self.outcomes = await self.outcomes_of_claims(self.ids[:18])
        # A message's only receipt is settled by the ordinary way; where there are two, both go with the rest.
        self.taken: list[ReceivedReceipt] = []
        self.singles: list[ReceivedReceipt] = []
        for n, (line, carrier) in enumerate(self.outcomes[:12]):
            await flow.record([line], carrier)
            state = self.chance.choice(("delivered", "undelivered"))
            receipts = [flow.new_receipt(carrier, str(line.reference), state) for _ in range(1 + n % 2)]
            self.taken += receipts
            self.singles += receipts if n % 2 == 0 else []
        await dlr_store.receive_batch(flow.pool, self.taken)
        await flow.later(self.chance.sample(self.ids, 8), 600)

    async def outcomes_of_claims(self, ids: list[UUID]) -> list[tuple[Outcome, int]]:
        """Claim messages at two carriers, and say what will become of them."""
        outcomes = []
        for n, id_ in enumerate(ids):
            carrier = self.carriers[n % 2]
            (claim,) = await self.flow.claim([id_], carrier)
            words = ("submitted",) if n < 12 else ("submitted", "refused_perm", "refused_temp", "uncertain")
            outcomes.append((outcome(id_, claim.attempt_no, self.chance.choice(words)), carrier))
        return outcomes

    def mixed(self, things: list[Any]) -> list[Any]:
        """The same things in another order."""
        return self.chance.sample(things, len(things))

    def actions(self) -> dict[str, Action]:
        """Every function that locks, on all messages."""
        flow, mixed, ids = self.flow, self.mixed, self.ids
        owners = {item.message_id: item.account_id for item in self.items}
        pairs = "select * from tollwire.cancel_batch_v1($1, $2)"

        async def cancel() -> None:
            few = mixed(ids)[:4] + mixed(ids[12:])[:4]
            await flow.pool.fetch(pairs, [owners[id_] for id_ in few], few)

        async def credit() -> None:
            for client in mixed(self.clients):
                await flow.credit(client, "top_up", 1, uuid4().hex)

        async def record() -> None:
            carrier = self.chance.choice(self.carriers)
            await flow.record([line for line, of in mixed(self.outcomes) if of == carrier], carrier)

        async def give_back() -> None:
            sql = "select tollwire.return_leases_v1($1, $2)"
            await flow.pool.fetch(sql, mixed(ids), [1] * len(ids))

        async def put_off_work() -> None:
            some = mixed(ids)
            work = [(id_.hex, 1) for id_ in some]
            await worker_store.put_off_work(flow.pool, work, [0.0] * len(some))

        def by_ids(sql: str, *more: object) -> Action:
            return lambda: flow.pool.fetch(sql, mixed(ids), *more)

        return {
            "accept": lambda: flow.accept(mixed(self.items)),
            "cancel": cancel,
            "claim": lambda: flow.claim(mixed(ids), self.carriers[0]),
            "record": record,
            "receive": lambda: dlr_store.receive_batch(flow.pool, mixed(self.taken)),
            "settle": lambda: flow.settle(mixed([receipt.receipt_id for receipt in self.taken])),
            "settle_singles": lambda: flow.settle(mixed([receipt.receipt_id for receipt in self.singles])),
            "take": lambda: dlr_store.take_receipts(flow.pool, mixed(self.taken), LEASE_SECONDS),
            "take_singles": lambda: dlr_store.take_receipts(flow.pool, mixed(self.singles), LEASE_SECONDS),
            "expire_due": by_ids(clockwork_store.EXPIRE_DUE),
            "expire_holds": by_ids(clockwork_store.EXPIRE_HOLDS),
            "start_scheduled": by_ids(clockwork_store.START_SCHEDULED),
            "recover_claims": by_ids(clockwork_store.RECOVER_CLAIMS, 10),
            "dispatch_due": by_ids(clockwork_store.DISPATCH_DUE, [None, None, None], 1),
            "tidy_outbox": by_ids(clockwork_store.TIDY, []),
            "put_off": by_ids(clockwork_store.PUT_OFF),
            "watch_later": by_ids(clockwork_store.WATCH_LATER),
            "return_leases": give_back,
            "put_off_work": put_off_work,
            "post_credit": credit,
        }


def deadlocks() -> float:
    """How many calls had to be made again because of a deadlock."""
    return sum(sample.value for metric in metrics.DEADLOCKS.collect() for sample in metric.samples)


@pytest.mark.timeout(ROUNDS_SECONDS + 60)
async def test_each_pair_of_functions_meets_without_a_deadlock(database: Database) -> None:
    chance = random.Random(26)
    before = deadlocks()
    async with open_flow(database) as flow:
        meeting = Meeting(flow, chance)
        await meeting.prepare()
        pairs = list(combinations_with_replacement(sorted(meeting.actions()), 2))
        until = time.monotonic() + ROUNDS_SECONDS
        rounds = 0
        while rounds == 0 or time.monotonic() < until:
            chance.shuffle(pairs)
            for number, (one, other) in enumerate(pairs):
                if number % 13 == 12:
                    await meeting.prepare()
                actions = meeting.actions()
                await asyncio.gather(*(actions[name]() for name in (one, other, one, other)))
            rounds += 1
    assert deadlocks() == before


HOLD_ALL = """
with a as (select id from ledger.accounts order by id for update)
select count(*) from a
"""
HOLD_STATES = """
select count(*) from (select 1 from tollwire.message_states order by message_id for update) s
"""
WAITING = (
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


async def at_once(flow: Flow, action: Action, number: int = 2) -> list[Any]:
    """Make the same call from several connections that all wait for one lock, then let them go."""
    async with flow.pool.acquire() as holder:
        async with holder.transaction():
            await holder.execute(HOLD_ALL)
            await holder.execute(HOLD_STATES)
            calls = [asyncio.ensure_future(action()) for _ in range(number)]
            async with asyncio.timeout(10):
                while await flow.pool.fetchval(WAITING) < number:  # noqa: ASYNC110 - the event is the server's
                    await asyncio.sleep(0)
        return list(await asyncio.gather(*calls))


async def snapshot(flow: Flow, ids: list[UUID]) -> list[Any]:
    """What two histories of the same messages can be compared by."""
    sql = """
        select s.state, s.attempt_no, s.tries, s.sequence, l.state, o.dispatch_no, a.held_micros,
               a.posted_micros, a.version, a.open_holds,
               (select count(*) from tollwire.attempts t where t.message_id = s.message_id)
        from unnest($1::uuid[]) with ordinality x(id, nth)
        left join tollwire.message_states s on s.message_id = x.id
        left join ledger.credit_locks l on l.message_id = x.id
        left join ledger.accounts a on a.id = l.account_id
        left join tollwire.outbox o on o.message_id = x.id order by x.nth
    """
    return [tuple(row) for row in await flow.pool.fetch(sql, ids)]


async def stages(flow: Flow, client: int, carrier: int) -> dict[str, tuple[list[UUID], Action]]:
    """Calls with fixed ids: made once or more often, the world must be the same."""
    items = [accept_item(client, key=f"k{n}", carrier_id=carrier) for n in range(3)]
    items[2] = replace(items[2], amount_micros=2**40)
    queued = await flow.accepted(client, 3)
    claimed = await flow.accepted(client, 4)
    claims = await flow.claim(claimed, carrier)
    words = ("submitted", "refused_temp", "uncertain", "refused_perm")
    lines = [
        outcome(id_, claim.attempt_no, word) for id_, claim, word in zip(claimed, claims, words, strict=True)
    ]
    sent = await flow.accepted(client, 2)
    references = await flow.submitted(sent, carrier)
    receipts = [await flow.receive(carrier, reference, "delivered") for reference in references]
    cancelled = await flow.accepted(client, 2)
    claim_id = uuid4()
    return {
        "accept": ([item.message_id for item in items], lambda: flow.accept(items)),
        "claim": (queued, lambda: flow.claim(queued, carrier, dispatch_no=1, claim_id=claim_id)),
        "record": (claimed, lambda: flow.record(lines, carrier)),
        "settle": (sent, lambda: flow.settle(receipts)),
        "cancel": (cancelled, lambda: flow.cancel(client, cancelled)),
        "credit": (queued, lambda: flow.credit(client, "top_up", 5, "once")),
    }


@pytest.mark.parametrize("name", ["record", "settle", "cancel", "expire_due", "expire_holds"])
async def test_who_waits_for_a_message_keeps_nobody_from_sending(database: Database, name: str) -> None:
    """Accounts are locked last: everybody who sends for a busy one waits for whoever has its row."""
    async with open_flow(database) as flow:
        client, carrier = await flow.client(), await flow.carrier()
        ids = await flow.accepted(client)
        actions: dict[str, Action] = {
            "expire_due": lambda: flow.pool.fetch(clockwork_store.EXPIRE_DUE, ids),
            "expire_holds": lambda: flow.pool.fetch(clockwork_store.EXPIRE_HOLDS, ids),
        }
        actions |= {stage: action for stage, (_, action) in (await stages(flow, client, carrier)).items()}
        async with flow.pool.acquire() as holder, holder.transaction():
            await holder.execute(HOLD_STATES)
            call = asyncio.ensure_future(actions[name]())
            async with asyncio.timeout(10):
                while await flow.pool.fetchval(WAITING) < 1:  # noqa: ASYNC110 - the event is the server's
                    await asyncio.sleep(0)
                await flow.accepted(client)
                await flow.credit(client, "top_up", 5, "beside")
        await call


@pytest.mark.parametrize("name", ["accept", "claim", "record", "settle", "cancel", "credit"])
async def test_a_call_made_again_beside_its_own_zombie_happens_once(database: Database, name: str) -> None:
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        worlds = []
        for number in (1, 3):
            ids, action = (await stages(flow, await flow.client(), carrier))[name]
            answers = await at_once(flow, action, number)
            answers.append(await action())
            worlds.append(await snapshot(flow, ids))
            if name == "claim":
                answers = [[(claim.refusal, claim.attempt_no) for claim in claims] for claims in answers]
            if name in ("claim", "record"):
                assert all(answer == answers[0] for answer in answers)
        assert worlds[0] == worlds[1]


@pytest.mark.parametrize("name", ["accept", "claim", "record", "settle", "cancel", "credit"])
async def test_a_call_whose_connection_is_killed_is_simply_made_again(database: Database, name: str) -> None:
    kill = """
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
    """
    async with open_flow(database) as flow:
        carrier = await flow.carrier()
        ids, action = (await stages(flow, await flow.client(), carrier))[name]
        async with flow.pool.acquire() as holder:
            async with holder.transaction():
                await holder.execute(HOLD_ALL)
                await holder.execute(HOLD_STATES)
                task = asyncio.ensure_future(action())
                async with asyncio.timeout(10):
                    while not await flow.pool.fetch(kill):  # noqa: ASYNC110 - the event is the server's
                        await asyncio.sleep(0)
            killed = await asyncio.gather(task, return_exceptions=True)
        again = await action()
        after = await snapshot(flow, ids)
        (plain_ids, plain) = (await stages(flow, await flow.client(), carrier))[name]
        await plain()
        assert after == await snapshot(flow, plain_ids)
        assert len(killed) == 1
        assert again is not None
