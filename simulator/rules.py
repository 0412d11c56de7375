"""The rules of the simulated carrier: which message has which outcome. Pure.

Magic numbers come first, then the first rule that fits, then `delivered`. A `mix` draws by a hash of the
seed and the message id, so that the same message has the same fate however often it is tried.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from simulator.magic import magic_script
from simulator.outcomes import Outcome, Script, script_for

Seconds = Annotated[float, Meta(ge=0, le=86_400 * 7)]
DigitsOrEmpty = Annotated[str, Meta(pattern=r"^[0-9]{0,15}$")]
# A long list is looked through for every message.
RULES_MAX = 1_000
PERCENT_ALL = 100.0
# A draw is the first 53 bits of the hash: as many as a float holds exactly.
_DRAW_BITS = 53


class BulkFaults(StrEnum):
    """What a broken reply does to a bulk: that one answer is null, or the whole reply suffers it."""

    POSITION = "position"
    WHOLE = "whole"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Numbers by their first digits (with or without +) and last; then one outcome, or a mix in percent.

    `times` and `seconds` are the argument of outcomes that have one.
    """

    prefix: Annotated[str, Meta(pattern=r"^\+?[0-9]{0,15}$")] = ""
    suffix: DigitsOrEmpty = ""
    outcome: Outcome | None = None
    mix: dict[Outcome, Annotated[float, Meta(ge=0, le=PERCENT_ALL)]] = {}
    times: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    seconds: Seconds | None = None

    def __post_init__(self) -> None:
        """A rule has one way to choose."""
        if (self.outcome is None) == (not self.mix):
            raise ValueError("a rule has either an outcome or a mix")
        if sum(self.mix.values()) > PERCENT_ALL:
            raise ValueError("a mix has at most 100 percent; what is left is delivered")


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be told to the simulator, by file or by PUT /rules."""

    seed: int = 1
    rules: Annotated[list[Rule], Meta(max_length=RULES_MAX)] = []
    magic_numbers: bool = True
    latency_seconds: Seconds = 0.0
    jitter_seconds: Seconds = 0.0
    receipt_delay_seconds: Seconds = 0.1
    receipt_jitter_seconds: Seconds = 0.0
    rate_per_second: Annotated[float, Meta(ge=0)] = 0.0  # 0: no limit
    burst: Annotated[int, Meta(ge=1)] = 100
    recognise_repeated_id: bool = False
    echo_message_id: bool = True
    bulk_faults: BulkFaults = BulkFaults.POSITION


def choose(rules: Rules, msisdn: str, message_id: str) -> Script:
    """Return the script for a message."""
    magic = magic_script(msisdn) if rules.magic_numbers else None
    if magic is not None:
        return magic
    for rule in rules.rules:
        if msisdn[1:].startswith(rule.prefix.removeprefix("+")) and msisdn.endswith(rule.suffix):
            outcome = rule.outcome or _draw(rule.mix, percent(rules.seed, message_id))
            return script_for(outcome, rule.times, rule.seconds)
    return script_for(Outcome.DELIVERED, None, None)


def percent(seed: int, message_id: str) -> float:
    """Return a number from 0 up to, not including, 100 that depends on nothing but the two."""
    digest = blake2b(f"{seed}:{message_id}".encode(), digest_size=8).digest()
    drawn = int.from_bytes(digest) >> (64 - _DRAW_BITS)
    return drawn * PERCENT_ALL / (1 << _DRAW_BITS)


def _draw(mix: dict[Outcome, float], drawn: float) -> Outcome:
    upto = 0.0
    for outcome, share in mix.items():
        upto += share
        if drawn < upto:
            return outcome
    return Outcome.DELIVERED
