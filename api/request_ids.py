"""The names of requests: what clients quote and the log has."""

import os
import re
from itertools import count

from aiohttp import web

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

_requests_begun = count(1)
_process_name = os.urandom(4).hex()


def new_request_id() -> str:
    """A name for a request that named itself in no way: this process's own, and a number."""
    return f"{_process_name}{next(_requests_begun) & 0xFFFFFFFF:08x}"


def request_id_of(request: web.BaseRequest) -> str:
    """The request's own X-Request-Id when it is a harmless word, else a new one."""
    given = request.headers.get("X-Request-Id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return new_request_id()
