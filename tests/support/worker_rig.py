"""A worker without its loops, on real PostgreSQL and JetStream, and carriers that it submits to."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from embedded.nats import NatsServer
from ledger.clockwork import Clockwork
from shared.events.bundles import Bundle, encode
from shared.runtime.clock import open_clock
from shared.runtime.jetstream import JetStream, open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop
from shared.runtime.server_settings import NatsAccess
from shared.storage.config import CarrierConfig, Routes, load_carriers
from shared.storage.facts import FactPublisher
from tests.support.faulty_http import FaultyServer, Reply, Request, faulty_server, http
from tests.support.flow import Flow, accept_item, new_id, open_flow
from tests.support.servers import Database
from worker.desk import Desk
from worker.desks import Desks
from worker.journal import Journal
from worker.submit import Submit

LANES = ("express", "normal", "bulk")
NO_ROUTES = Routes({})
KEYRING = Keyring("k1", {"k1": bytes(32)})


@dataclass
class Rig:
    """A worker without its loops, and the carrier that it submits to."""

    flow: Flow
    jetstream: JetStream
    clockwork: Clockwork
    server: FaultyServer
    desks: Desks
    journal: Journal
    submit: Submit
    carrier: CarrierConfig

    @property
    def desk(self) -> Desk:
        """The carrier's desk of now."""
        desk = self.desks.get(self.carrier.id)
        assert desk is not None
        return desk

    async def another(
        self, url: str, settings: Mapping[str, object] = MappingProxyType({}), **columns: Any
    ) -> CarrierConfig:
        """Open one more carrier."""
        settings = {"url": url, "body": {"id": "$message_id"}, **settings}
        carrier_id = await self.flow.carrier(settings=settings, **columns)
        async with self.flow.pool.acquire() as connection:
            carriers = await load_carriers(connection)
        self.journal.apply(carriers)
        await self.desks.apply(carriers, NO_ROUTES)
        return carriers[carrier_id]

    async def accepted(self, number: int, **changes: Any) -> list[UUID]:
        """Accept so many messages whose texts can be read, and return their ids in order."""
        client = await self.flow.client()
        ids = sorted(new_id() for _ in range(number))
        sealed = [KEYRING.seal(b"hello", id_.bytes) for id_ in ids]
        await self.flow.accept(
            [
                accept_item(
                    client,
                    **{"message_id": id_, "text_sealed": text, "carrier_id": self.carrier.id} | changes,
                )
                for id_, text in zip(ids, sealed, strict=True)
            ],
            incarnation=self.jetstream.stream_incarnation("SMS_SEND"),
        )
        return ids

    async def bundle(self, ids: Sequence[UUID]) -> None:
        """Work one bundle off."""
        await self.submit.carry("normal", self.carrier.id, [(id_.hex, 1) for id_ in ids], 1, Stop())

    async def publish(self, lane: str, carrier: CarrierConfig, number: int) -> list[UUID]:
        """Accept so many messages, and publish them as one bundle."""
        ids = await self.accepted(number, lane=lane, carrier_id=carrier.id)
        bundle = Bundle(lane=lane, carrier_id=carrier.id, work=[(id_.hex, 1) for id_ in ids])  # type: ignore[arg-type]  # a lane's name
        await self.jetstream.publish(f"sms.send.{lane}", encode(bundle), message_id=f"{ids[0].hex}.1")
        return ids

    async def until_handed_out(self, lane: str) -> None:
        """Return when a worker has asked for all bundles of a lane."""
        name = f"worker-{lane}"
        while True:
            backlogs = {one.consumer: one for one in await self.jetstream.backlogs("SMS_SEND")}
            if name in backlogs and backlogs[name].pending == 0:
                return

    async def until_states(self, ids: Sequence[UUID], state: str) -> None:
        """Return when all of them are there."""
        while set(await self.states(ids)) != {state}:  # noqa: ASYNC110 - the event is the server's
            await asyncio.sleep(0)

    async def states(self, ids: Sequence[UUID]) -> list[str]:
        """Where the messages are."""
        return [await self.flow.state(id_) for id_ in ids]


def taken(request: Request) -> Reply:
    """An answer that takes the message; its id is the reference."""
    return http(200, msgspec.json.encode({"reference": msgspec.json.decode(request.body)["id"]}))


@asynccontextmanager
async def open_rig(database: Database, nats_server: NatsServer) -> AsyncIterator[Rig]:
    """A worker's parts on a database, with one carrier that takes all."""
    nats = NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)
    async with (
        faulty_server(taken) as server,
        open_flow(database) as flow,
        open_clock(flow.pool) as clock,
        open_jetstream(nats) as jetstream,
        FactPublisher(jetstream) as facts,
        Journal(flow.pool, jetstream, facts, clock) as journal,
        Desks(KEYRING, LANES) as desks,
    ):
        settings = {"url": server.url, "body": {"id": "$message_id"}}
        carrier_id = await flow.carrier(settings=settings)
        async with flow.pool.acquire() as connection:
            carriers = await load_carriers(connection)
        journal.apply(carriers)
        await desks.apply(carriers, NO_ROUTES)
        submit = Submit(desks, journal, KEYRING, clock)
        clockwork = Clockwork(flow.pool, jetstream, facts)
        await jetstream.wait_connected(20.0)
        await jetstream.ensure_streams()
        yield Rig(flow, jetstream, clockwork, server, desks, journal, submit, carriers[carrier_id])
