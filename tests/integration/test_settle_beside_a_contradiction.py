"""A message that contradicts itself is settled by nobody, and keeps nobody else waiting (RULES 8)."""

import asyncpg

from dlr.held import Lease
from dlr.settle import Settle
from embedded.nats import NatsServer
from shared.runtime.jetstream import open_jetstream
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher
from tests.support.flow import open_flow
from tests.support.servers import Database


class Nobody:
    """Nobody has an endpoint here."""

    def lease(self) -> Lease:
        return Lease(0, 0.0)

    def deliver_soon(self, works: object, leased_at: float) -> None: ...

    def load_soon(self, callback_ids: object, leased_at: float) -> None: ...


async def test_a_message_without_a_hold_fails_alone_and_is_settled_when_it_is_mended(
    database: Database, nats_server: NatsServer
) -> None:
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
        FactPublisher(jetstream) as facts,
        Settle(flow.pool, facts, Nobody()) as settle,
    ):
        carrier, client = await flow.carrier(), await flow.client()
        messages = await flow.accepted(client, 5)
        receipts = [
            await flow.receive(carrier, reference, "delivered")
            for reference in await flow.submitted(messages, carrier)
        ]
        await flow.pool.execute(
            "create table public.taken as select * from ledger.credit_locks where message_id = $1",
            messages[2],
        )
        await flow.pool.execute("delete from ledger.credit_locks where message_id = $1", messages[2])

        answers = await settle._batcher.submit_each(receipts)

        assert isinstance(answers[2], asyncpg.DataCorruptedError)
        states = [await flow.state(message) for message in messages]
        assert states == ["DELIVERED", "DELIVERED", "SENT", "DELIVERED", "DELIVERED"]

        await flow.pool.execute("insert into ledger.credit_locks select * from public.taken")
        await flow.pool.execute("drop table public.taken")
        await settle.settle([receipts[2]])
        assert await flow.state(messages[2]) == "DELIVERED"
