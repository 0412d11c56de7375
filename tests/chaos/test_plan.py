"""A plan is drawn from its seed and nothing else, and no named crash point is left out."""

import random
from itertools import islice

import pytest

from shared.runtime.crash_points import CRASH_POINTS
from tests.chaos.cast import Cast, Step
from tests.chaos.faults import Crash
from tests.chaos.orders import Habits, draw_order
from tests.chaos.plan import PLANS
from tests.chaos.process_plans import SERVICE_OF_STEP
from tests.chaos.proxy import open_proxy
from tests.chaos.scene import Account

STEPS = 40


def steps_of(plan: str, seed: int) -> list[Step]:
    rules: dict[str, dict[str, object]] = {"knows": {}, "blind": {}}
    with open_proxy(1) as proxy:
        return list(islice(PLANS[plan].draw(Cast(random.Random(seed), 2, rules, proxy)), STEPS))


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_the_same_seed_draws_the_same_faults_at_the_same_times(plan: str):
    first, again = ([(step.after_seconds, step.fault.name) for step in steps_of(plan, 7)] for _ in range(2))
    assert first == again
    assert first


def test_every_named_crash_point_is_struck_in_the_process_that_has_it():
    struck = {step.fault.point for step in steps_of("crash-points", 1) if isinstance(step.fault, Crash)}
    assert struck == set(CRASH_POINTS)
    assert {point.partition(".")[0] for point in CRASH_POINTS} == set(SERVICE_OF_STEP)


def test_crash_points_that_are_struck_together_are_of_different_services():
    struck: list[Crash] = []
    for step in steps_of("crash-points", 1):
        assert isinstance(step.fault, Crash)
        struck.append(step.fault)
        services = [crash.victim.partition("-")[0] for crash in struck]
        assert len(set(services)) == len(services)
        if not step.fault.overlaps:
            struck.clear()


def test_the_same_seed_orders_the_same_messages():
    accounts = [Account("acme", "tw_x", 1.0, "delivered", "whsec_x")]

    def drawn() -> list[bytes]:
        dice = random.Random(3)
        habits = Habits(scheduled=0.0)
        return [draw_order("r", number, dice, accounts, habits).body for number in range(200)]

    assert drawn() == drawn()
