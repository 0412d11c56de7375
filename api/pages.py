"""What a browser gets: the document, its page, the dictionary of refusals.

Everything comes from files of ours; the Content-Security-Policy lets nothing else in.
"""

import gzip
import mimetypes
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources
from typing import Final

from aiohttp import web

from api.error_pages import errors_page
from api.openapi import document
from api.request_ids import request_id_of
from api.routing import Operation, Serve, encode
from shared.runtime.http_headers import SAFE_HEADERS

# A page's files change with a release; a browser that asks again after this gets a 304.
CACHE_SECONDS: Final = 300
STATIC_FILES: Final = ("docs.html", "docs.js", "dom.js", "schema.js", "docs.css", "favicon.svg")
PAGE_HEADERS: Final = {
    **SAFE_HEADERS,
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Cache-Control": f"public, max-age={CACHE_SECONDS}",
    "Vary": "Accept-Encoding",
}


class Page:
    """Bytes that never change while the process runs, with their ETag and a compressed copy."""

    def __init__(self, body: bytes, media_type: str) -> None:
        self._body = body
        self._packed = gzip.compress(body, mtime=0)
        self._headers = {
            **PAGE_HEADERS,
            "Content-Type": media_type,
            "ETag": f'W/"{sha256(body).hexdigest()[:16]}"',  # weak: packed or not, it is one page
        }

    async def serve(self, request: web.BaseRequest, _params: dict[str, str]) -> web.StreamResponse:
        """Answer with the page, or 304 when the browser has it."""
        headers = {**self._headers, "X-Request-Id": request_id_of(request)}
        if _has(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=self._packed, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=self._body, headers=headers)


def _has(request: web.BaseRequest, tag: str) -> bool:
    """Whether a browser or a proxy names the tag, or any: compared weakly (RFC 9110, 13.1.2)."""
    named = ",".join(request.headers.getall("If-None-Match", ())).split(",")
    return not {tag.removeprefix("W/"), "*"}.isdisjoint(one.strip().removeprefix("W/") for one in named)


def pages(operations: Sequence[Operation]) -> list[tuple[str, str, Serve]]:
    """Every page and file with its path."""
    folder = resources.files("api") / "static"
    errors = errors_page((folder / "errors.html").read_text())
    found = {
        "/openapi.json": Page(encode(document(operations)), "application/json"),
        "/docs/errors": Page(errors.encode(), "text/html; charset=utf-8"),
    }
    for name in STATIC_FILES:
        path = "/docs" if name == "docs.html" else f"/docs/{name}"
        media_type, _ = mimetypes.guess_type(name)
        found[path] = Page((folder / name).read_bytes(), f"{media_type}; charset=utf-8")
    found["/favicon.ico"] = found["/docs/favicon.svg"]
    routes: list[tuple[str, str, Serve]] = [("GET", path, page.serve) for path, page in found.items()]
    return [*routes, ("GET", "/", _to_docs)]


async def _to_docs(request: web.BaseRequest, _params: dict[str, str]) -> web.StreamResponse:
    headers = {**PAGE_HEADERS, "Location": "/docs", "X-Request-Id": request_id_of(request)}
    return web.Response(status=302, headers=headers)
