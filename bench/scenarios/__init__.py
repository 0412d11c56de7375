"""What is measured, by name. Each scenario starts what it needs, proves its counts and ends all of it."""

from bench.scenarios import (
    accepting,
    cold_keys,
    dead_endpoint,
    floors,
    growth,
    idle,
    keeping,
    soak,
    whole_way,
    wrong_keys,
)
from bench.scenarios.registry import SCENARIOS, Options, Scenario

__all__ = [
    "SCENARIOS", "Options", "Scenario",
    # Each enters its scenarios into the list.
    "accepting", "cold_keys", "dead_endpoint", "floors", "growth", "idle", "keeping", "soak", "whole_way",
    "wrong_keys",
]  # fmt: skip
