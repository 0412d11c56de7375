"""`tollwire key`: what of a key is sent, and what is not."""

import asyncio

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import tollwire
from cli.failures import Exit
from shared.domain.api_keys import RANDOM_BYTES, ApiKey, format_api_key, new_api_key
from tests.support.faulty_http import FaultyServer, faulty_server, http

KEYS = [new_api_key(bytes([byte]) * RANDOM_BYTES, is_test=byte == 2) for byte in (1, 2)]


async def revoke(server: FaultyServer, word: str) -> Result:
    words = ("key", "revoke", word, "--api-url", server.url, "--api-key", "x", "--json")
    return await asyncio.to_thread(CliRunner().invoke, tollwire, words)


@pytest.mark.parametrize("key", KEYS)
async def test_of_a_whole_key_its_id_alone_is_sent_to_revoke_it(key: ApiKey) -> None:
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        for word in (key.key_id, format_api_key(key)):
            assert (await revoke(server, word)).exit_code == Exit.DONE
    assert [request.path for request in server.requests] == [f"/admin/v1/keys/{key.key_id}"] * 2


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_that_is_cut_or_mistyped_is_sent_nowhere(key: ApiKey) -> None:
    text = format_api_key(key)
    async with faulty_server(lambda _: http(200, b"{}")) as server:
        for word in (text[:-1], text.replace(key.secret, key.secret[::-1])):
            done = await revoke(server, word)
            assert done.exit_code == Exit.USAGE
            assert key.secret not in done.output
    assert server.requests == []
