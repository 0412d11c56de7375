"""The journal's flushes carry several carriers' work: what goes wrong with one of them is its own affair."""

import asyncio
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from embedded.nats import NatsServer
from shared.runtime.postgres import OutcomeUnknown
from shared.storage.config import CarrierConfig
from tests.support.flow import outcome
from tests.support.old_days import drop_days, soon_given_up
from tests.support.servers import Database
from tests.support.worker_rig import Rig, open_rig
from worker.store import Claimed, Outcome

HOLD = "select 1 from tollwire.message_states where message_id = $1 for update"


class Submitted(NamedTuple):
    """A carrier's claimed message and its answer, as they are recorded."""

    carrier: CarrierConfig
    claimed: list[Claimed]
    outcomes: list[Outcome]


async def submitted(rig: Rig, carrier: CarrierConfig) -> Submitted:
    (id_,) = await rig.accepted(1, carrier_id=carrier.id)
    (claim,) = await rig.journal.claim(carrier.id, [(id_.hex, 1)], 60)
    return Submitted(carrier, [Claimed(id_, claim)], [outcome(id_, claim.attempt_no, "submitted")])


@pytest.mark.parametrize("is_stuck_first", [True, False])
async def test_what_cannot_be_recorded_costs_no_other_carrier_its_outcomes(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, is_stuck_first: bool
) -> None:
    """Nor its answer: what was recorded beside it is known to be."""
    monkeypatch.setattr("worker.store.RECORD_DEADLINE_SECONDS", 5.0)
    async with open_rig(database, nats_server) as rig:
        stuck = await submitted(rig, rig.carrier)
        free = await submitted(rig, await rig.another(rig.server.url))
        chunks = [stuck, free] if is_stuck_first else [free, stuck]
        async with rig.flow.pool.acquire() as connection, connection.transaction():
            await connection.execute(HOLD, stuck.claimed[0].message_id)
            heard = await asyncio.gather(
                *(rig.journal.record(*chunk) for chunk in chunks), return_exceptions=True
            )
        answers = dict(zip([chunk.carrier.name for chunk in chunks], heard, strict=True))
        assert isinstance(answers[stuck.carrier.name], OutcomeUnknown)
        recorded = answers[free.carrier.name]
        assert not isinstance(recorded, BaseException)
        assert [one.state for one in recorded] == ["SENT"]
        assert [one.state for one in await rig.journal.record(*stuck)] == ["SENT"]


async def test_outcomes_wait_for_a_day_whose_partitions_are_not_made(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than for a database that is away: it knows that they went out, and not what was answered."""
    soon_given_up(monkeypatch, "worker.store.RECORD_DEADLINE_SECONDS")
    async with open_rig(database, nats_server) as rig:
        one = await submitted(rig, rig.carrier)
        await drop_days(rig.flow, "tollwire.carrier_references")
        with capture_logs() as logs:
            record = asyncio.ensure_future(rig.journal.record(*one))
            async with asyncio.timeout(20):
                while [entry["event"] for entry in logs].count("outcomes wait") < 2:
                    assert not record.done()
                    await asyncio.sleep(0.01)
        await rig.clockwork.make_partitions()
        assert [recorded.state for recorded in await record] == ["SENT"]
