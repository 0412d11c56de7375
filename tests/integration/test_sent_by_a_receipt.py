"""A receipt that stands in for an answer makes a message SENT, and reports hear of it (RULES 35)."""

from uuid import UUID

from dlr.held import Lease
from dlr.settle import Settle
from embedded.nats import NatsServer
from shared.runtime.jetstream import open_jetstream
from shared.runtime.server_settings import NatsAccess
from shared.storage.facts import FactPublisher, load_facts
from tests.support.flow import Flow, open_flow, outcome
from tests.support.servers import Database
from tests.support.stored_facts import stored_facts
from tests.support.worker_rig import open_rig
from worker.store import Claimed


class Nobody:
    """Nobody has an endpoint here."""

    def lease(self) -> Lease:
        return Lease(0, 0.0)

    def deliver_soon(self, works: object, leased_at: float) -> None: ...

    def load_soon(self, callback_ids: object, leased_at: float) -> None: ...


async def waiting(flow: Flow, carrier: int) -> dict[str, UUID]:
    """A message in each state in which its sending goes on."""
    client = await flow.client()
    (unknown,) = await flow.accepted(client, carrier_id=carrier)
    (queued,) = await flow.accepted(client, carrier_id=carrier, delivery="at_least_once")
    (failed,) = await flow.accepted(client, carrier_id=carrier)
    await flow.claim([unknown, queued, failed], carrier)
    await flow.receipt(carrier, "failed", "unknown", echo_message_id=failed)
    lines = [outcome(unknown, 1, "uncertain"), outcome(queued, 1, "uncertain")]
    await flow.record([*lines, outcome(failed, 1, "refused_temp")], carrier)
    found = {"UNKNOWN": unknown, "QUEUED": queued, "FAILED_TEMP": failed}
    assert [await flow.state(message) for message in found.values()] == list(found)
    return found


async def test_what_receipts_send_is_told_once_each(database: Database, nats_server: NatsServer) -> None:
    async with (
        open_flow(database) as flow,
        open_jetstream(NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)) as jetstream,
    ):
        assert await jetstream.wait_connected(20)
        await jetstream.ensure_streams()
        carrier = await flow.carrier()
        messages = sorted((await waiting(flow, carrier)).values())
        (ended,) = await flow.accepted(await flow.client(), carrier_id=carrier)
        await flow.claim([ended], carrier)
        receipts = [
            flow.new_receipt(carrier, f"of {message}", word, echo_message_id=message)
            for message in messages
            for word in ("accepted", "enroute")
        ]
        receipts += [
            flow.new_receipt(carrier, "delivered", word, echo_message_id=ended)
            for word in ("accepted", "delivered")
        ]
        async with FactPublisher(jetstream) as facts, Settle(flow.pool, facts, Nobody()) as settle:
            await settle.take(receipts)
        assert [await flow.state(message) for message in messages] == ["SENT"] * 3
        told = [
            fact
            for fact in await stored_facts(nats_server.url, nats_server.token)
            if UUID(fact.message_id) in (*messages, ended)
        ]
        expected = await load_facts(flow.pool, [*messages, ended])
    assert sorted(told, key=lambda fact: fact.message_id) == sorted(expected, key=lambda f: f.message_id)


async def test_a_refusal_that_a_receipt_outweighs_is_no_error_of_the_message(
    database: Database, nats_server: NatsServer
) -> None:
    async with open_rig(database, nats_server) as rig:
        carrier = rig.carrier.id
        (message,) = await rig.flow.accepted(await rig.flow.client(), carrier_id=carrier)
        (claim,) = await rig.journal.claim(carrier, [(message.hex, 1)], 60)
        await rig.flow.receipt(carrier, "of a proxy's", "enroute", echo_message_id=message)
        line = outcome(message, 1, "throttled", error="503")
        await rig.journal.record(rig.carrier, [Claimed(message, claim)], [line])
        (expected,) = await load_facts(rig.flow.pool, [message])
    told = await stored_facts(nats_server.url, nats_server.token)
    found = [(fact.status, fact.error) for fact in told if UUID(fact.message_id) == message]
    assert found == [(expected.status, expected.error)] == [("SENT", None)]
