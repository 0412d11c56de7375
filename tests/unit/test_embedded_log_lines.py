import json

import pytest

from embedded.log_lines import readable
from shared.runtime.stack_traces import stack_trace


def test_lines_of_servers_stay_as_they_are():
    text = "2026-11-21 LOG:  ready\n{ this is no JSON\n\nlast"
    assert readable(text) == text


def test_a_line_of_a_service_is_plain_words():
    line = {"ts": "T", "level": "error", "event": "settings are wrong", "service": "api", "faults": ["x"]}
    assert readable(json.dumps(line)) == "T error settings are wrong faults=['x']"


def innermost(depth: int) -> None:
    if depth:
        innermost(depth - 1)
    raise OSError("the port is taken")


def failing_service() -> None:
    try:
        innermost(10)
    except OSError as error:
        raise RuntimeError("the service failed") from error


def test_an_exception_shows_what_was_raised_where_and_what_led_to_it():
    with pytest.raises(RuntimeError) as caught:
        failing_service()
    line = {"ts": "T", "level": "error", "event": "failed", "exception": stack_trace(caught.value)}
    first, *trace = readable(json.dumps(line)).splitlines()
    failing_test = "test_an_exception_shows_what_was_raised_where_and_what_led_to_it"
    assert first == "T error failed"
    assert [part.strip().rpartition(" ")[2] for part in trace] == [
        "failed", "failing_service", failing_test, "taken", "innermost", "innermost"
    ]  # fmt: skip
    assert trace[3] == "    caused by OSError: the port is taken"


def test_of_a_deep_exception_the_outer_places_are_left_out():
    trace = "OSError: no\n" + "".join(f"  frame {number}\n" for number in range(20)) + "caused by KeyError"
    shown = readable(json.dumps({"ts": "T", "level": "error", "event": "failed", "exception": trace}))
    assert [line.strip() for line in shown.splitlines()] == [
        "T error failed", "OSError: no", "frame 0", "frame 1", "caused by KeyError"
    ]  # fmt: skip
