"""The headers that every answer of ours carries, whoever asks and whatever the answer is.

They are what OWASP's REST and HTTP headers cheat sheets ask of an API: nothing is kept by caches, guessed,
framed or run, and a browser that once came over TLS comes back over TLS (it ignores that without TLS).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import web

SAFE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=31536000",
        "Server": "tollwire",
    }
)


async def add_safe_headers(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add them to an answer that is about to go, aiohttp's own included: for ``on_response_prepare``."""
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SAFE_HEADERS["Server"]  # aiohttp has put its version and Python's there
