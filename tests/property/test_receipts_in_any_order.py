"""Receipts in any order, bundling and repetition end a message in one state, with one movement of money.

Messages in several parts and attempts, each part of each attempt with a receipt of its own. What the carrier
says of one part of one attempt does not change; only when and how often it says it does.
"""

import asyncio
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.flow import Flow, open_flow, outcome
from tests.support.long import LONG
from tests.support.servers import Database

WORDS = ("delivered", "undelivered", "expired")
# (parts, attempts before the last one whose answer never came in time but was "submitted" after all)
MESSAGES = st.tuples(st.integers(1, 3), st.integers(0, 1))


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, int, list[str], list[tuple[int, int]]]:
    """Parts, attempts, a word for each part of each attempt, and the order of receipts in flushes."""
    parts, earlier = draw(MESSAGES)
    slots = parts * (earlier + 1)
    words = draw(st.lists(st.sampled_from(WORDS), min_size=slots, max_size=slots))
    order = draw(st.permutations([*range(slots), *draw(st.lists(st.integers(0, slots - 1), max_size=3))]))
    flushes = [(slot, draw(st.integers(0, 2))) for slot in order]
    return parts, earlier + 1, words, flushes


async def sent_message(flow: Flow, client: int, carrier: int, parts: int, attempts: int) -> UUID:
    """A message that the carrier has, by this many attempts; all but the last answered late."""
    (message,) = await flow.accepted(client, parts=parts, segments=parts, delivery="at_least_once")
    for number in range(1, attempts + 1):
        (claim,) = await flow.claim([message], carrier)
        word = "submitted" if number == attempts else "uncertain"
        lines = [outcome(message, number, word, part=part, retry_seconds=0.0) for part in claim.parts or []]
        await flow.record(lines, carrier)
    for number in range(1, attempts):
        lines = [outcome(message, number, "submitted", part=part) for part in range(1, parts + 1)]
        await flow.record(lines, carrier)
    return message


async def play(
    flow: Flow, world: tuple[int, int], words: list[str], parts: int, attempts: int, flushes: list[list[int]]
) -> tuple[Any, ...]:
    """Send a message, give its receipts in these flushes, and return how it ended."""
    client, carrier = world
    before = (await flow.account(client))["posted_micros"]
    message = await sent_message(flow, client, carrier, parts, attempts)
    for flush in flushes:
        receipts = []
        for slot in flush:
            reference = f"ref-{message}-{slot // parts + 1}-{slot % parts + 1}"
            receipts.append(await flow.receive(carrier, reference, words[slot]))
        await flow.settle(receipts)
    row, lock = await flow.state_row(message), await flow.lock(message)
    paid = before - (await flow.account(client))["posted_micros"]
    return row["state"], lock["state"], row["parts_delivered"], paid, row["late_receipt"]


def expected(words: list[str], parts: int) -> tuple[str, str]:
    """RULES 17: DELIVERED when every part was delivered by some attempt, else as nobody can deliver it."""
    delivered = {slot % parts for slot, word in enumerate(words) if word == "delivered"}
    if len(delivered) == parts:
        return "DELIVERED", "CAPTURED"
    if "expired" in words and not delivered:
        return "EXPIRED", "RELEASED"
    return "UNDELIVERED", "RELEASED"


def bundled(flushes: list[tuple[int, int]]) -> list[list[int]]:
    """Cut the receipts into flushes: a 0 begins a new one."""
    cut: list[list[int]] = [[]]
    for slot, joins in flushes:
        if joins == 0 and cut[-1]:
            cut.append([])
        cut[-1].append(slot)
    return cut


def test_any_order_and_repetition_of_receipts_ends_the_same(database: Database) -> None:
    with asyncio.Runner() as runner:
        context = open_flow(database)
        flow = runner.run(context.__aenter__())

        async def make_world() -> tuple[int, int]:
            return await flow.client(10**12), await flow.carrier()

        world = runner.run(make_world())

        @settings(
            max_examples=1_000 if LONG else 60,
            deadline=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        )
        @given(histories())
        def check(history: tuple[int, int, list[str], list[tuple[int, int]]]) -> None:
            parts, attempts, words, flushes = history
            state, lock, delivered, paid, is_late = runner.run(
                play(flow, world, words, parts, attempts, bundled(flushes))
            )
            assert (state, lock) == expected(words, parts)
            assert paid == (7_900 * parts if lock == "CAPTURED" else 0)
            assert not is_late
            if lock == "CAPTURED":
                assert delivered == parts

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))
