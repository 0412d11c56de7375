"""Waits for the hint that the next log line gives to an operator."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog


@contextmanager
def first_hint() -> Iterator["asyncio.Future[str]"]:
    """While it is open, log lines go nowhere, and the first ``hint`` among them is the future's result."""
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def listen(_logger: Any, _name: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line.get("hint") and not found.done():
            found.set_result(str(line["hint"]))
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [listen]
    try:
        yield found
    finally:
        processors[:] = before
