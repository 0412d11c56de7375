"""Every dead letter is on sms.dlq and counted, whoever made it."""

from uuid import UUID

import pytest

from embedded.nats import NatsServer
from ledger.dead_letters import DEAD_LETTERS, REASONS, DeadLetters
from shared.events.dead_letters import DeadLetter, decode
from shared.storage.finals import NO_CARRIER
from tests.integration.test_clockwork import Works, raw, works
from tests.support.flow import outcome

__all__ = ["works"]


async def on_the_stream(server: NatsServer) -> dict[UUID, DeadLetter]:
    """What is in SMS_DLQ; each once."""
    async with raw(server) as connection:
        api = connection.jetstream()
        state = (await api.stream_info("SMS_DLQ")).state
        found = [
            decode((await api.get_msg("SMS_DLQ", number)).data or b"")
            for number in range(max(state.first_seq, 1), state.last_seq + 1)
        ]
    letters = {UUID(letter.message_id): letter for letter in found}
    assert len(letters) == len(found)
    return letters


def counted(carrier: str, reason: str) -> float:
    return float(DEAD_LETTERS.labels(carrier, reason)._value.get())


async def unknown(works: Works) -> UUID:
    (id_,) = await works.accepted(1)
    (claim,) = await works.flow.claim([id_], works.carrier)
    await works.flow.record([outcome(id_, claim.attempt_no, "uncertain")], works.carrier)
    await works.flow.later([id_], 7_200)
    await works.clockwork.turn()
    return id_


async def suspended(works: Works) -> UUID:
    (id_,) = await works.accepted(1)
    await works.flow.pool.execute("update tollwire.clients set suspended = true")
    await works.flow.later([id_], 61)
    await works.clockwork.turn()
    return id_


async def refused(works: Works, **changes: object) -> UUID:
    (id_,) = await works.accepted(1, **changes)
    (claim,) = await works.flow.claim([id_], works.carrier)
    await works.flow.record([outcome(id_, claim.attempt_no, "refused_perm", error="blocked")], works.carrier)
    return id_


WAYS = {
    "outcome_unknown": unknown,
    "client_suspended": suspended,
    "refused_perm": refused,
}


@pytest.mark.parametrize("reason", WAYS)
async def test_a_dead_letter_is_told_and_counted_whoever_made_it(works, nats_server, reason):
    name = await works.flow.pool.fetchval("select name from tollwire.carriers where id = $1", works.carrier)
    before = counted(name, reason)
    id_ = await WAYS[reason](works)
    assert await works.flow.state(id_) == "FAILED_PERM"
    letters = DeadLetters(works.flow.pool, works.jetstream)
    await letters.run_once()
    await letters.run_once()
    told = await on_the_stream(nats_server)
    assert (told[id_].client_id, list(told)) == (works.client, [id_])
    assert counted(name, reason) - before == 1


async def test_a_test_messages_letter_is_told_and_not_counted(works, nats_server):
    name = await works.flow.pool.fetchval("select name from tollwire.carriers where id = $1", works.carrier)
    before = counted(name, "refused_perm")
    id_ = await refused(works, is_test=True)
    await DeadLetters(works.flow.pool, works.jetstream).run_once()
    assert list(await on_the_stream(nats_server)) == [id_]
    assert counted(name, "refused_perm") == before


async def test_what_the_stream_does_not_take_is_told_later(works, nats_server, monkeypatch):
    id_ = await refused(works)
    letters = DeadLetters(works.flow.pool, works.jetstream)
    with monkeypatch.context() as away:
        away.setattr(type(works.jetstream), "connected", property(lambda _: False))
        await letters.run_once()
    assert await on_the_stream(nats_server) == {}
    await letters.run_once()
    assert list(await on_the_stream(nats_server)) == [id_]


async def test_a_letter_whose_day_is_gone_is_only_taken_off(works, nats_server, database):
    database.is_corrupted_on_purpose()
    await refused(works)
    await works.flow.pool.execute("delete from tollwire.dead_letters")
    await DeadLetters(works.flow.pool, works.jetstream).run_once()
    assert await on_the_stream(nats_server) == {}
    assert await works.flow.pool.fetchval("select count(*) from tollwire.untold_dead_letters") == 0


async def test_every_carrier_shows_its_counts_before_it_has_a_dead_letter(works):
    name = await works.flow.pool.fetchval("select name from tollwire.carriers where id = $1", works.carrier)
    await DeadLetters(works.flow.pool, works.jetstream).show_carriers()
    shown = {tuple(sample.labels.values()) for metric in DEAD_LETTERS.collect() for sample in metric.samples}
    assert {(carrier, reason) for carrier in (name, NO_CARRIER) for reason in REASONS} <= shown
