"""Feeds parsers with damaged inputs and counts what they say."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from tests.chaos.fuzz.mutate import inputs
from tests.chaos.fuzz.targets import TARGETS, Target

# So slow may an input be, on a machine that does other things too; more is an attack.
SLOW_SECONDS = 0.5
CRASHES_MAX = 5


class Fed(NamedTuple):
    """What a parser said to so many inputs."""

    inputs: int
    taken: int
    refused: int
    crashes: list[str]
    slowest_seconds: float


def feed(target: Target, texts: Iterable[bytes]) -> Fed:
    """Feed a parser until the inputs or our patience with crashes end."""
    number = taken = refused = 0
    crashes: list[str] = []
    slowest = 0.0
    for text in texts:
        number += 1
        started = time.process_time()
        try:
            target.read(text)
            taken += 1
        except target.refusals:
            refused += 1
        except Exception as error:  # noqa: BLE001 - whatever else it raises is what we look for
            crashes.append(f"{text[:300]!r}: {error!r}")
        slowest = max(slowest, time.process_time() - started)
        if len(crashes) >= CRASHES_MAX:
            break
    return Fed(number, taken, refused, crashes, round(slowest, 3))


def feed_all(seed: int, number: int) -> dict[str, Fed]:
    """Feed every parser with so many inputs of a seed."""
    return {
        name: feed(target, islice(inputs(target.corpus, seed), number)) for name, target in TARGETS.items()
    }
