"""Receipts of one submit in one flush do what each of them does alone, one after the other (RULES 5).

Every two and some three words of a carrier that contradicts itself as it likes, for each plan, before and
after the answer to the submit, where that was lost, and where it was refused in spite of a word on it.
"""

import random
from collections.abc import Sequence
from itertools import chain, product
from typing import Any, Final
from uuid import UUID

from dlr import store
from dlr.store import ReceivedReceipt
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database

WORDS: Final = ("enroute", "accepted", "unknown", "rejected", "undelivered", "expired", "delivered")
PLANS: Final = ("submitted", "delivered")
REFUSALS: Final = ("refused_temp", "refused_perm")
ANSWERS: Final = (None, "uncertain", "submitted", *REFUSALS)
THREES: Final = 60
ROW: Final = """
    select s.state::text, s.parts_delivered, s.error_code, s.late_receipt, l.state::text,
           l.reason::text, a.receipt::text, a.receipt_at is null, a.reference is null,
           a.outcome::text
    from unnest($1::uuid[]) with ordinality x(id, nth)
    join tollwire.message_states s on s.message_id = x.id
    join ledger.credit_locks l on l.message_id = x.id
    join tollwire.attempts a on a.message_id = x.id
    order by x.nth
"""


async def submits(flow: Flow, carrier: int, number: int) -> list[list[UUID]]:
    """So many messages of each plan and each answer."""
    client = await flow.client(10**12)
    groups = []
    for plan, answer in product(PLANS, ANSWERS):
        messages = await flow.accepted(client, number, charge=plan, carrier_id=carrier)
        await flow.claim(messages, carrier)
        if answer in REFUSALS:
            await told(flow, [word_on(flow, carrier, id_, "unknown") for id_ in messages])
        if answer:
            lines = [outcome(id_, 1, answer, reference=None) for id_ in messages]
            await flow.record(lines, carrier)
        groups.append(messages)
    return groups


def word_on(flow: Flow, carrier: int, message: UUID, word: str) -> ReceivedReceipt:
    """What the carrier says of the only submit."""
    return flow.new_receipt(carrier, f"of {message}", word, echo_message_id=message)


async def told(flow: Flow, flush: Sequence[ReceivedReceipt]) -> None:
    """Keep and settle receipts together."""
    await store.receive_batch(flow.pool, flush)
    await flow.settle([receipt.receipt_id for receipt in flush])


async def play(flow: Flow, stories: Sequence[Sequence[str]], *, is_together: bool) -> list[Any]:
    """Tell each story of each group of messages; return how they stand.

    A flush that has one receipt of each message, and no more, is as calls of their own.
    """
    carrier = await flow.carrier()
    groups = await submits(flow, carrier, len(stories))
    tales = [tale for messages in groups for tale in zip(messages, stories, strict=True)]
    rounds: list[list[ReceivedReceipt]] = [[], [], []]
    for message, story in tales:
        for nth, word in enumerate(story):
            rounds[nth].append(word_on(flow, carrier, message, word))
    for flush in [list(chain(*rounds))] if is_together else rounds:
        await told(flow, flush)
    return [tuple(row) for row in await flow.pool.fetch(ROW, [message for message, _ in tales])]


async def test_a_flush_of_receipts_is_as_single_calls(database: Database) -> None:
    chance = random.Random(3)
    stories = [
        *product(WORDS, repeat=2), *(tuple(chance.choices(WORDS, k=3)) for _ in range(THREES)),
    ]  # fmt: skip
    async with open_flow(database) as flow:
        together = await play(flow, stories, is_together=True)
        alone = await play(flow, stories, is_together=False)
    every = [(*kind, story) for kind in product(PLANS, ANSWERS) for story in stories]
    differing = [
        (tale, one, other) for tale, one, other in zip(every, together, alone, strict=True) if one != other
    ]
    assert differing == []
