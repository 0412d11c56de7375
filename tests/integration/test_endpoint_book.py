"""dlr's book of endpoints: read in pages, and what has not changed stays as it is."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from dlr import endpoint_book
from dlr.endpoint_book import EndpointBook, load_endpoint_book
from shared.runtime.clock import Clock
from shared.runtime.keyring import Keyring
from shared.storage.callback_endpoints import callback_secret_aad
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

KEY = bytes(32)


class CountingKeyring(Keyring):
    """A keyring that counts what it opens."""

    opened = 0

    def unseal(self, sealed: bytes, aad: bytes) -> bytes:
        self.opened += 1
        return super().unseal(sealed, aad)


async def endpoint(flow: Flow, keyring: Keyring, *secrets: bytes) -> int:
    endpoint_id = await flow.endpoint(await flow.client())
    for secret in secrets:
        await add_secret(flow, keyring, endpoint_id, secret)
    return endpoint_id


async def add_secret(flow: Flow, keyring: Keyring, endpoint_id: int, secret: bytes) -> None:
    text = "whsec_" + base64.b64encode(secret).decode()
    sealed = keyring.seal(text.encode(), callback_secret_aad(endpoint_id))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await flow.insert(
        "tollwire.callback_secrets", endpoint_id=endpoint_id, sealed=sealed, expires_at=tomorrow
    )


async def read(flow: Flow, keyring: Keyring, before: EndpointBook | None = None) -> tuple[EndpointBook, int]:
    """Load the book; return it and the number of queries that it took."""
    queries: list[object] = []
    async with flow.pool.acquire() as connection:
        connection.add_query_logger(queries.append)
        book = await load_endpoint_book(connection, keyring, before)
        connection.remove_query_logger(queries.append)
    return book, len(queries)


async def test_many_endpoints_are_read_in_pages_and_only_what_changed_is_opened_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_book, "PAGE_MAX", 2)
    keyring, clock = CountingKeyring("k1", {"k1": KEY}), Clock()
    one, two = b"1" * 32, b"2" * 32
    async with open_flow(database) as flow:
        ids = [await endpoint(flow, keyring, *secrets) for secrets in ([one], [one, two], [], [two], [one])]
        book, queries = await read(flow, keyring)
        assert [book.secrets(id_, clock) for id_ in ids] == [(one,), (two, one), (), (two,), (one,)]
        assert (queries, keyring.opened) == (3, 5)

        await add_secret(flow, keyring, ids[0], two)
        await flow.pool.execute(
            "update tollwire.callback_endpoints set url = 'https://new.example/' where id = $1", ids[3]
        )
        await flow.pool.execute("delete from tollwire.callback_endpoints where id = $1", ids[4])
        book, _ = await read(flow, keyring, book)
        assert [book.secrets(id_, clock) for id_ in ids] == [(two, one), (two, one), (), (two,), ()]
        assert keyring.opened == 5 + 2 + 1
        assert book.may_call(ids[3], "new.example")
