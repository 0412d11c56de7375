import json

from embedded.log_lines import readable


def test_lines_of_servers_stay_as_they_are():
    text = "2026-11-21 LOG:  ready\n{ this is no JSON\n\nlast"
    assert readable(text) == text


def test_a_line_of_a_service_is_plain_words():
    line = {"ts": "T", "level": "error", "event": "settings are wrong", "service": "api", "faults": ["x"]}
    assert readable(json.dumps(line)) == "T error settings are wrong faults=['x']"


def test_an_exception_shows_its_end():
    trace = "Traceback\n" + "".join(f"  frame {number}\n" for number in range(20)) + "OSError: no"
    shown = readable(json.dumps({"ts": "T", "level": "error", "event": "failed", "exception": trace}))
    assert shown.splitlines()[0] == "T error failed"
    assert shown.splitlines()[-1].strip() == "OSError: no"
    assert len(shown.splitlines()) == 5
