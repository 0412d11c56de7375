"""`tollwire send --csv --rejected`: rows that were not taken, and never in place of the file that is sent."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from tests.support.faulty_http import faulty_server, http

ROWS = "to,text\n+4915112345678,hello\n"
KEY = format_api_key(new_api_key(bytes(RANDOM_BYTES), is_test=False))


def same_name(sent: Path, _: Path) -> Path:
    return sent


def symbolic_link(sent: Path, other: Path) -> Path:
    other.symlink_to(sent)
    return other


def hard_link(sent: Path, other: Path) -> Path:
    os.link(sent, other)
    return other


@pytest.mark.parametrize("named", [same_name, symbolic_link, hard_link])
async def test_the_file_that_is_sent_is_never_written_over(named: Callable[[Path, Path], Path], tmp_path):
    sent = tmp_path / "messages.csv"
    sent.write_text(ROWS)
    rejected = named(sent, tmp_path / "other.csv")
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        words = ["send", "--csv", str(sent), "--rejected", str(rejected)]
        words += ["--api-url", server.url, "--api-key", KEY]
        environ = {"TOLLWIRE_HOME": str(tmp_path / "home")}
        done = await asyncio.to_thread(CliRunner().invoke, tollwire, words, env=environ)
    assert (done.exit_code, server.requests, sent.read_text()) == (Exit.USAGE, [], ROWS)
    assert f"{rejected} is the file that is sent." in done.output
    assert "Nothing was sent." in done.output
