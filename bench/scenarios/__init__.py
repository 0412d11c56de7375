"""What is measured, by name. Each scenario starts what it needs, proves its counts and ends all of it."""

from bench.scenarios import accepting, floors, idle, whole_way
from bench.scenarios.registry import SCENARIOS, Options, Scenario

__all__ = ["SCENARIOS", "Options", "Scenario", "accepting", "floors", "idle", "whole_way"]
