"""Logs: JSON, a line an event, on stdout, without texts and without numbers.

Each line has ``ts``, ``level``, ``event`` and ``service``, and ``trace_id`` inside a trace. Whatever a
caller passes, a message's text is never written and an msisdn shows its last two digits only.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Final, TextIO
from uuid import UUID

import msgspec
import structlog

from shared.runtime.stack_traces import show_exception
from shared.runtime.tracing import current_trace_id

# What a message says is nobody's business but its sender's and its reader's.
REFUSED_KEYS: Final = frozenset({"text", "texts", "body", "payload", "short_message"})
MSISDN_KEYS: Final = frozenset({"msisdn", "msisdns", "to", "destination", "recipient", "phone", "number"})
REFUSED: Final = "[not logged]"
MSISDN_DIGITS_SHOWN: Final = 2
# How deep a value is followed and how long a string may be; what is beyond is not worth a log line.
DEPTH_MAX: Final = 4
STRING_CHARS_MAX: Final = 8192
# What every JSON reader can hold; a longer number is written as a string.
INT_BITS_MAX: Final = 53

# E.164 has 15 digits at most; below seven it is a short code, which is nobody's own number.
_E164: Final = re.compile(r"\+\d{7,15}")
# PostgreSQL puts the failing row, text and all, into the DETAIL of its error.
_DETAIL: Final = re.compile(r"DETAIL:.*?(?=\nHINT:|\n\n|\nTraceback |\Z)", re.DOTALL)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

EventDict = MutableMapping[str, Any]


def configure(service: str, level: str, *, stream: TextIO | None = None) -> None:
    """Send the logs of this process, and of the libraries in it, to ``stream`` (stdout)."""
    number = _LEVELS[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            show_exception,
            _Line(service),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(number)
    # One line a request is a metric's work, not a log's.
    logging.getLogger("aiohttp.access").setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)


def clean(value: Any, *, key: str = "", depth: int = 0) -> Any:
    """Return a value as a log may show it: JSON types only, no text of a message, msisdns masked."""
    if key in REFUSED_KEYS:
        return REFUSED
    if isinstance(value, str):
        return _clean_string(value, key)
    if isinstance(value, int) and (key in MSISDN_KEYS or value.bit_length() > INT_BITS_MAX):
        return _clean_string(str(value), key)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum | BaseException | UUID | date):
        return clean(value.value if isinstance(value, Enum) else str(value), key=key, depth=depth + 1)
    if depth >= DEPTH_MAX:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(name): clean(inner, key=str(name), depth=depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(inner, key=key, depth=depth + 1) for inner in value]
    # The repr of any other object could hold a text.
    return f"<{type(value).__name__}>"


def mask_msisdn(text: str) -> str:
    """Hide every digit but the last two: ``+4915112345678`` becomes ``+***********78``."""
    digits_left = sum(character.isdigit() for character in text)
    masked: list[str] = []
    for character in text:
        is_hidden = character.isdigit() and digits_left > MSISDN_DIGITS_SHOWN
        digits_left -= character.isdigit()
        masked.append("*" if is_hidden else character)
    return "".join(masked)


def _clean_string(value: str, key: str) -> str:
    shown = value.encode("utf-8", "replace").decode()
    shown = _DETAIL.sub(f"DETAIL: {REFUSED}", shown)
    if key in MSISDN_KEYS:
        shown = mask_msisdn(shown)
    shown = _E164.sub(lambda found: mask_msisdn(found.group()), shown)
    if len(shown) <= STRING_CHARS_MAX:
        return shown
    # A traceback says what happened at its end and where at its beginning.
    half = STRING_CHARS_MAX // 2
    return f"{shown[:half]} … {shown[-half:]}"


class _Line:
    """The last processor: makes the line."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._encoder = msgspec.json.Encoder()

    def __call__(self, _logger: object, level: str, event: EventDict) -> str:
        line: dict[str, Any] = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": "error" if level == "exception" else level,
            "event": clean(event.pop("event", "")),
            "service": self._service,
        }
        trace_id = current_trace_id()
        if trace_id is not None:
            line["trace_id"] = trace_id
        for key, value in event.items():
            line.setdefault(key, clean(value, key=key))
        return self._encoder.encode(line).decode()


class _Bridge(logging.Handler):
    """Carries what libraries log by ``logging`` into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
