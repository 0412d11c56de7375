"""What a worker hands to a carrier."""

import time
from collections.abc import Sequence

from shared.runtime.clock import RUNS_ON, running_seconds
from shared.runtime.keyring import Keyring
from tests.support.lane_model import ModelCarrier, ModelServers, open_lane
from worker.carriers.base import FREELY, Handover, Outcome, Submission

DEADLINE_SECONDS = 60


class Noting(ModelCarrier):
    """Notes how long what it is handed may still be written."""

    def __init__(self) -> None:
        super().__init__(1, 0.0)
        self.write_within_seconds: list[float] = []

    async def submit_many(
        self, submissions: Sequence[Submission], handover: Handover = FREELY
    ) -> list[Outcome]:
        for one in submissions:
            now = one.later(running_seconds() - one.asked_at)
            self.write_within_seconds.append(now.write_within_seconds)
        return await super().submit_many(submissions, handover)


async def test_a_suspend_after_the_claim_counts_though_it_comes_while_the_texts_are_opened(monkeypatch):
    slept_seconds, read, unseal = 0.0, time.clock_gettime, Keyring.unseal

    def unseal_in_a_suspend(keyring: Keyring, sealed: bytes, about: bytes) -> bytes:
        nonlocal slept_seconds
        slept_seconds = DEADLINE_SECONDS / 2
        return unseal(keyring, sealed, about)

    monkeypatch.setattr(
        time, "clock_gettime", lambda on: read(on) + (slept_seconds if on == RUNS_ON else 0.0)
    )
    monkeypatch.setattr(Keyring, "unseal", unseal_in_a_suspend)
    servers, carrier = ModelServers(), Noting()
    async with open_lane(servers, {1: carrier}, submit_deadline_seconds=DEADLINE_SECONDS):
        await servers.until_sent(servers.accept(1, 1))
    (left_seconds,) = carrier.write_within_seconds
    assert left_seconds < 0.0
