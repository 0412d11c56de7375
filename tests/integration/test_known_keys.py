"""known_keys_v1: what stands under idempotency keys, for each position."""

import asyncio

from msgspec.structs import astuple

from api import store
from api.store import KeyAsked
from tests.support.flow import accept_item, open_flow
from tests.support.servers import Database

WAIT_SECONDS = 20.0
COUNT_WAITING = """
    select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%known_keys_v1%'
"""


async def test_each_position_tells_what_stands_under_its_key(database: Database) -> None:
    async with open_flow(database) as flow:
        client, other = await flow.client(), await flow.client()
        accepted = accept_item(client, key="k", item=3, fingerprint=b"a" * 32)
        blocked = accept_item(client, key="b", refusal="sender_not_allowed", refusal_args={"sender": "X"})
        await flow.accept([accepted, blocked])
        asked = [KeyAsked(client, "b", 0), KeyAsked(client, "k", 0), KeyAsked(client, "k", 3)]
        found = await store.known_keys(flow.pool, [*asked, KeyAsked(other, "k", 3)])
        assert [known and (known.message_id, known.problem, known.args) for known in found] == [
            (blocked.message_id, "sender_not_allowed", {"sender": "X"}),
            None,
            (accepted.message_id, None, None),
            None,
        ]
        assert [known and known.fingerprint[:1] for known in found] == [b"f", None, b"a", None]


async def test_nothing_is_said_before_an_accept_under_way_is_decided(database: Database) -> None:
    """A look at the rows alone said "nothing", and the accept committed right after it."""
    async with open_flow(database) as flow:
        client = await flow.client()
        item = accept_item(client, key="k")
        columns = [list(column) for column in zip(astuple(item), strict=True)]
        async with flow.pool.acquire() as slow:
            accept = slow.transaction()
            await accept.start()
            await slow.fetch(store.ACCEPT, *columns, 1, 1, 60)
            asking = asyncio.create_task(store.known_keys(flow.pool, [KeyAsked(client, "k", 0)]))
            async with asyncio.timeout(WAIT_SECONDS):
                while not await flow.pool.fetchval(COUNT_WAITING):  # noqa: ASYNC110 - a lock tells nobody
                    await asyncio.sleep(0.01)
            await accept.commit()
        (known,) = await asking
        assert known is not None
        assert known.message_id == item.message_id
