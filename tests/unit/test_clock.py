"""The clock's ids; its reading of the database is in tests/integration/test_clock_of_the_database.py."""

import time
from datetime import UTC, datetime

import pytest

from shared.domain.ids import uuid7_time_ms
from shared.runtime.clock import Clock


def test_ids_carry_the_corrected_time() -> None:
    clock = Clock(offset_seconds=3600.0)
    ahead_ms = uuid7_time_ms(clock.new_uuid7()) - time.time() * 1000
    assert 3_590_000 < ahead_ms < 3_610_000


def test_each_id_is_greater_than_the_one_before() -> None:
    clock = Clock()
    ids = [clock.new_uuid7() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert {each.version for each in ids} == {7}


def test_ids_rise_although_the_time_is_set_back() -> None:
    clock = Clock(offset_seconds=60.0)
    before = clock.new_uuid7()
    clock._base_seconds -= 60.0
    assert clock.new_uuid7() > before


def test_a_step_of_the_machines_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.now_ms()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= clock.now_ms() - before < 10_000


def test_time_goes_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts it in CLOCK_BOOTTIME alone."""
    clock, read = Clock(), time.clock_gettime
    before = clock.now_ms()
    slept = {time.CLOCK_BOOTTIME: 3_600.0}
    monkeypatch.setattr(time, "clock_gettime", lambda which: read(which) + slept.get(which, 0.0))
    assert 3_600_000 <= clock.now_ms() - before < 3_610_000


def test_now_is_an_aware_time() -> None:
    now = Clock().now()
    assert now.tzinfo == UTC
    assert abs((now - datetime.now(UTC)).total_seconds()) < 10
