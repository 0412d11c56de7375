"""A slip in each of a carrier's receipts is one log line a minute."""

import pytest
from structlog.testing import capture_logs

from dlr.seldom import PAUSE_SECONDS, Seldom


def test_an_event_is_told_at_once_then_once_a_minute_with_how_often_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Seldom()
    with capture_logs() as logs:
        for now, event, carrier, count in (
            (5.0, "odd", "telco", 2),
            (6.0, "odd", "telco", 3),
            (6.0, "odd", "globtel", 1),
            (6.0, "late", "telco", 1),
            (4.9 + PAUSE_SECONDS, "odd", "telco", 1),
            (5.0 + PAUSE_SECONDS, "odd", "telco", 1),
        ):
            monkeypatch.setattr("dlr.seldom.time.monotonic", lambda now=now: now)
            told.warn(event, carrier, count)
    assert [(line["event"], line["carrier"], line["count"]) for line in logs] == [
        ("odd", "telco", 2),
        ("odd", "globtel", 1),
        ("late", "telco", 1),
        ("odd", "telco", 5),
    ]
