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


async def test_how_many_prices_are_in_force_is_told_where_the_rest_is_not(tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("prefix,price\n" + "".join(f"{prefix},0.07\n" for prefix in range(100_000, 101_500)))
    answers = iter([http(200, msgspec.json.encode({"changed": 1_000})), http(404, b"a proxy's own words")])
    async with faulty_server(lambda _: next(answers)) as server:
        words = ["rate", "set", "--csv", str(prices), "--api-url", server.url, "--api-key", "x"]
        shown = await asyncio.to_thread(CliRunner().invoke, tollwire, words)
    assert shown.exit_code == Exit.FAILED
    assert "The first 1,000 of 1,500 are in force. The same command sets the rest." in shown.stderr
