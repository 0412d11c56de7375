"""`tollwire rate` says what became of prices, also where there was nothing to change."""

import asyncio

import msgspec
import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from cli.failures import Exit
from tests.support.faulty_http import faulty_server, http


@pytest.mark.parametrize(
    ("prefixes", "changed", "told"),
    [
        (("49",), 1, "1 price changed."),
        (("49",), 0, "No price changed: it was so already."),
        (("49", "33"), 0, "No price changed: all 2 were so already."),
        (("49", "33"), 1, "1 of 2 prices changed; 1 was so already."),
    ],
)
async def test_what_became_of_prices_is_told(prefixes, changed, told):
    async with faulty_server(lambda _: http(200, msgspec.json.encode({"changed": changed}))) as server:
        words = ["rate", "remove", *prefixes, "--api-url", server.url, "--api-key", "x"]
        shown = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert (shown.exit_code, shown.output.strip()) == (Exit.DONE, told)
