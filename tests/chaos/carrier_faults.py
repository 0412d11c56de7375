"""Faults of carriers: they behave as their rules tell them, and for a while the rules are bad ones."""

import asyncio
from collections.abc import Mapping

import aiohttp

from tests.chaos.faults import Fault
from tests.chaos.instance import CARRIERS, Instance

ANSWER_SECONDS = 10.0


class Misbehave(Fault):
    """Both carriers draw from another mix of outcomes, or follow other rules, for a while."""

    def __init__(
        self,
        name: str,
        seconds: float,
        base: Mapping[str, Mapping[str, object]],
        changes: Mapping[str, object],
    ) -> None:
        self.name = f"carriers {name}"
        self.hold_seconds = seconds
        self._base = base
        self._changes = changes

    async def strike(self, instance: Instance) -> None:
        """Tell them the other rules."""
        await self._tell(instance, self._changes)

    async def heal(self, instance: Instance) -> None:
        """Tell them the usual ones."""
        await self._tell(instance, {})

    async def _tell(self, instance: Instance, changes: Mapping[str, object]) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(
                *(self._tell_one(session, instance, kind.name, changes) for kind in CARRIERS)
            )

    async def _tell_one(
        self, session: aiohttp.ClientSession, instance: Instance, name: str, changes: Mapping[str, object]
    ) -> None:
        rules = {**self._base[name], **changes}
        async with session.put(f"{instance.carrier_url(name)}/rules", json=rules) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{name} refused its rules: {await answer.text()}")


def mixes(**shares: float) -> dict[str, object]:
    """The change of rules that draws from these outcomes, in per cent."""
    return {"rules": [{"mix": shares}]}


# A message is valid for a minute (the plan's clients order so), and its hold ends half a minute after the
# submit: a receipt that takes longer comes after both.
LATE_SECONDS = 65.0
# Receipts that come when the hold has ended, or the message is given up, each by its name.
LATE_MISBEHAVIOURS: Mapping[str, Mapping[str, object]] = {
    "send receipts after the hold's end": {"receipt_delay_seconds": LATE_SECONDS},
    "send other receipts after the hold's end": {
        **mixes(
            undeliverable=30, receipt_twice=20, undelivered_after_delivered=10, enroute_after_delivered=10
        ),
        "receipt_delay_seconds": LATE_SECONDS,
    },
    "lose answers and send receipts after the end": {
        **mixes(closes=25, no_answer=5, closes_mid_reply=10),
        "receipt_delay_seconds": LATE_SECONDS / 2,
    },
    "refuse until the validity ends": {
        **mixes(always_temporary=40, temporary=20),
        "receipt_delay_seconds": LATE_SECONDS,
    },
}
# What carriers do for a while, each by its name.
MISBEHAVIOURS: Mapping[str, Mapping[str, object]] = {
    "hang": mixes(no_answer=40, no_answer_lost=30),
    "answer late": {"latency_seconds": 3.0, "jitter_seconds": 3.0},
    "close in the middle of a reply": {**mixes(closes_mid_reply=40, closes=20), "bulk_faults": "whole"},
    "throttle": mixes(throttled=60),
    "throttle by rate": {"rate_per_second": 100.0, "burst": 50},
    "fail for a while": mixes(temporary=80),
    "give two messages one reference": mixes(duplicate_reference=100),
    "send receipts first": mixes(receipt_first=100),
    "send receipts three times": mixes(receipt_twice=100),
    "send receipts out of order": mixes(enroute_after_delivered=50, enroute_then_delivered=50),
    "send unknown references": mixes(unknown_reference=100),
    "answer garbage": mixes(garbage=50),
}
