"""Logs: one JSON line an event, without texts and without numbers."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import pytest
import structlog

from shared.runtime import logs, redaction
from shared.runtime.stack_traces import CHAIN_MAX


class Lines:
    """What was logged, parsed."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    found = Lines()
    logs.configure("worker", "info", stream=found.stream)
    yield found
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


log = structlog.get_logger("test")


def test_a_line_says_when_how_bad_what_and_who(lines: Lines) -> None:
    log.info("started", lanes=["express"], count=3)
    line = lines.last
    assert datetime.fromisoformat(line.pop("ts")).tzinfo == UTC
    assert line == {
        "level": "info",
        "event": "started",
        "service": "worker",
        "lanes": ["express"],
        "count": 3,
    }


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    log.debug("noise")
    assert lines.all() == []


@pytest.mark.parametrize("key", ["text", "body", "payload"])
def test_what_a_message_says_is_never_written(lines: Lines, key: str) -> None:
    log.info("accepted", **{key: "Your code is 123456"}, request={key: "Your code is 123456"})
    assert "123456" not in lines.stream.getvalue()
    assert lines.last[key] == lines.last["request"][key] == logs.REFUSED


@dataclass
class Submission:
    text: str


def test_an_object_is_named_and_not_spelt_out(lines: Lines) -> None:
    log.info("submitted", submission=Submission("Your code is 123456"), raw=b"123456")
    assert (lines.last["submission"], lines.last["raw"]) == ("<Submission>", "<bytes>")


@pytest.mark.parametrize("key", ["msisdn", "to", "number", "msisdns"])
def test_an_msisdn_shows_its_last_two_digits(lines: Lines, key: str) -> None:
    log.info(
        "accepted", **{key: "+4915112345678"}, nested={key: ["4915112345678"]}, deeper=[{key: 4915112345678}]
    )
    assert lines.last[key] == "+***********78"
    assert lines.last["nested"][key] == ["***********78"]
    assert lines.last["deeper"] == [{key: "***********78"}]


def test_an_msisdn_is_masked_wherever_it_stands(lines: Lines) -> None:
    log.warning(
        "no route to +4915112345678", cause="for +4915112345678 too", error=ValueError("+4915112345678")
    )
    assert lines.last["event"] == "no route to +***********78"
    assert lines.last["cause"] == "for +***********78 too"
    assert lines.last["error"] == "+***********78"


def test_the_failing_row_of_a_database_error_is_not_written(lines: Lines) -> None:
    cause = "violates check\nDETAIL:  Failing row contains (1, Your code\nis 123456).\nHINT:  look again"
    log.error("flush failed", cause=cause, exc_info=RuntimeError(cause))
    assert "123456" not in lines.stream.getvalue()
    assert lines.last["cause"] == f"violates check\nDETAIL: {logs.REFUSED}\nHINT:  look again"
    assert "RuntimeError: violates check" in lines.last["exception"]


def test_ids_and_numbers_stay_readable(lines: Lines) -> None:
    message_id = UUID("0193e0a0-0000-7000-8000-000000000001")
    log.info(
        "sent",
        message_id=message_id,
        at=datetime(2026, 11, 21, tzinfo=UTC),
        is_late=True,
        share=0.5,
        none=None,
    )
    assert lines.last["message_id"] == str(message_id)
    assert lines.last["at"] == "2026-11-21 00:00:00+00:00"
    assert (lines.last["is_late"], lines.last["share"], lines.last["none"]) == (True, 0.5, None)


def test_nothing_that_is_logged_can_break_the_caller(lines: Lines) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    log.info(
        "odd \ud800", lone="\ud800", large=2**80, not_a_number=float("nan"), endless=endless, key={1: {2}}
    )
    assert lines.last["lone"] == "?"
    assert lines.last["large"] == str(2**80)


def test_a_long_value_keeps_its_beginning_and_its_end(lines: Lines) -> None:
    log.info("long", trace="begin" + "x" * 100_000 + "end")
    assert len(lines.last["trace"]) <= redaction.STRING_CHARS_MAX + 3
    assert lines.last["trace"].startswith("begin")
    assert lines.last["trace"].endswith("end")


def test_libraries_log_into_the_same_lines(lines: Lines) -> None:
    logging.getLogger("asyncio").warning("took %s for +4915112345678", "2 s")
    assert lines.last["event"] == "took 2 s for +***********78"
    assert (lines.last["level"], lines.last["logger"], lines.last["service"]) == (
        "warning",
        "asyncio",
        "worker",
    )


def fail_with(text: str) -> None:
    try:
        int(text)
    except ValueError as error:
        raise RuntimeError("the flush failed") from error


def test_a_stack_trace_tells_where_and_never_what_with(lines: Lines) -> None:
    try:
        fail_with('Your code is "123456"')
    except RuntimeError:
        log.exception("failed")
    trace = lines.last["exception"]
    assert trace.startswith("RuntimeError: the flush failed\n  tests/unit/test_logs.py:")
    assert "caused by ValueError: invalid literal for int() with base 10: …\n" in trace
    assert trace.count("fail_with") == 2
    assert "123456" not in lines.stream.getvalue()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("machine's clock is -400 s off the database's; set it", None),
        ("the carriers' answers weren't clients' keys", None),
        ("it's 'text 123456' here", "it's … here"),
        ("it's 'text 123456', the machine's", "it's …, the machine's"),
        ("it's \"text 123456\", the machine's", "it's …, the machine's"),
        ("column 'a' of relation \"b\" isn't there", "column … of relation … isn't there"),
        ("parameters ('a', b's 123456', '')", "parameters (…, b…, …)"),
    ],
)
def test_an_apostrophe_is_no_quote(lines: Lines, said: str, shown: str | None) -> None:
    log.error("failed", exc_info=RuntimeError(said))
    assert lines.last["exception"] == f"RuntimeError: {shown or said}"


BEFORE = ("got {}", "it's {}", "the clients' {}", "code{}", "b{}", "x={}", "'a' {}", "({},)")
AFTER = ("", " isn't the machine's", ", 'a'", ' at "a"', ".")


@pytest.mark.parametrize(
    "text",
    [
        "123456",
        "don't tell 123456",
        "the dogs' 123456",
        "the dogs' 123456.",
        "rock 'n' roll 123456",
        'say "hi" to 123456!',
        "say 'hi', 123456",
        "'123456'",
        "C:\\123456\\",
        "two\nlines 123456",
        "123456\nlines",
        "isn't it's 123456 isn't it's",
    ],
)
def test_no_text_gets_out_of_its_quotes(lines: Lines, text: str) -> None:
    """Quoted by Python, which escapes what is in it, or by a library that does not."""
    for quoted, before, after in product((repr(text), f"'{text}'", f'"{text}"'), BEFORE, AFTER):
        log.error("failed", exc_info=RuntimeError(before.format(quoted) + after))
        assert "123456" not in lines.stream.getvalue(), before.format(quoted) + after


def test_what_quotes_without_end_is_left_out_quickly(lines: Lines) -> None:
    for said in ("'" * 100_000, "'a' x'x" * 30_000, "'" + "\\" * 100_000, "a'b" * 50_000, "'\\'" * 50_000):
        log.error("failed", exc_info=RuntimeError(said))
    assert len(lines.all()) == 5


def test_an_endless_chain_of_errors_ends(lines: Lines) -> None:
    one, other = KeyError("lost"), KeyError("lost too")
    one.__cause__, other.__cause__ = other, one
    logging.getLogger("aiohttp.server").error("failed", exc_info=one)
    assert lines.last["level"] == "error"
    assert lines.last["exception"] == "\ncaused by ".join(["KeyError: …"] * CHAIN_MAX)


def test_a_request_is_no_log_line(lines: Lines) -> None:
    logging.getLogger("aiohttp.access").info("GET /")
    assert lines.all() == []


def test_warnings_are_logged(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in lines.last["event"]
