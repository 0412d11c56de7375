"""The pages: whole, from our own files, and closed to everybody else's."""

import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

import aiohttp
import pytest
from aiohttp import web

from api.operations import OPERATIONS
from api.pages import STATIC_FILES, pages
from api.server import Front, Server

STATIC = resources.files("api") / "static"


@asynccontextmanager
async def browsing() -> AsyncIterator[aiohttp.ClientSession]:
    runner = web.ServerRunner(Server(Front([], pages(OPERATIONS))))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(base, auto_decompress=False) as session:
        yield session
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html"),
        ("/docs/errors", "text/html"),
        ("/docs/docs.js", "text/javascript"),
        ("/docs/docs.css", "text/css"),
        ("/docs/favicon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
        ("/openapi.json", "application/json"),
    ],
)
async def test_a_page_is_served_closed_to_what_is_not_ours(path, media_type):
    async with browsing() as session:
        answer = await session.get(path)
        assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, media_type)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_browser_that_has_a_page_is_told_so_and_others_get_it_packed():
    async with browsing() as session:
        packed = await session.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
        plain = await session.get("/openapi.json", headers={"Accept-Encoding": "identity"})
        assert gzip.decompress(await packed.read()) == await plain.read()
        tag = plain.headers["ETag"]
        strong = tag.removeprefix("W/")
        assert tag == f"W/{strong}"
        for had in (tag, strong, f'"other", {tag}', f'W/"other",{strong}', "*"):
            again = await session.get("/openapi.json", headers={"If-None-Match": had})
            assert (again.status, await again.read()) == (304, b""), had
        for other in ('"other"', "", strong.strip('"')):
            assert (await session.get("/openapi.json", headers={"If-None-Match": other})).status == 200


async def test_the_start_leads_to_the_documents_and_what_is_counted_is_not_for_the_public():
    async with browsing() as session:
        start = await session.get("/", allow_redirects=False)
        assert (start.status, start.headers["Location"]) == (302, "/docs")
        assert (await session.get("/metrics")).status == 404


def test_every_file_is_ours_and_every_file_is_served():
    assert {path.name for path in STATIC.iterdir()} == {*STATIC_FILES, "errors.html"}
    for path in STATIC.iterdir():
        text = path.read_text()
        foreign = [url for url in re.findall(r"https?://[^\s\"'`)]+", text) if "w3.org" not in url]
        assert [url for url in foreign if "example.org" not in url] == [], path.name
        if path.name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text), path.name


def test_no_page_puts_text_in_as_html():
    for name in STATIC_FILES:
        if name.endswith(".js"):
            assert "innerHTML" not in (STATIC / name).read_text().replace("No innerHTML anywhere", "")
