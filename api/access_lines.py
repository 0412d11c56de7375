"""Sampled lines about requests: one of many, so that a person sees what they look like."""

import structlog

from api.routing import Call, Operation

_log = structlog.get_logger(__name__)


def note_request(call: Call, operation: Operation, status: int, seconds: float) -> None:
    """Leave a line in the log: who asked for what, and how it went; no path's ids and no body."""
    client = call.key.client if call.key is not None else None
    _log.info(
        "request",
        route=operation.path,
        method=operation.method,
        status=status,
        seconds=round(seconds, 4),
        request_id=call.request_id,
        client_id=client.id if client is not None else None,
    )
