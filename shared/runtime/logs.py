"""Logs: JSON, a line an event, on stdout, without texts and without numbers.

Each line has ``ts``, ``level``, ``event`` and ``service``, and ``trace_id`` inside a trace. Whatever a
caller passes, a message's text is never written and an msisdn shows its last two digits only.
"""

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog

from shared.runtime.redaction import REFUSED, clean, mask_msisdn
from shared.runtime.stack_traces import show_exception
from shared.runtime.tracing import current_trace_id

__all__ = ["REFUSED", "clean", "configure", "mask_msisdn"]

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
