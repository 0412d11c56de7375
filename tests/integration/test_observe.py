"""The ledger process shows what PostgreSQL and JetStream know: in its own role, and once among several."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from asyncpg import InterfaceError
from prometheus_client import REGISTRY

from embedded.nats import NatsServer
from ledger import gauges
from ledger.checkpoints import close_day
from ledger.observe import Observer
from shared.events.bundles import Bundle, encode
from shared.runtime.consumers import ACK_PENDING_MAX
from shared.runtime.jetstream import JetStream, open_jetstream
from shared.runtime.postgres import Pool
from shared.runtime.server_settings import NatsAccess
from tests.integration.test_clockwork import until_streams_are_there
from tests.support.flow import Flow, accept_item, open_flow
from tests.support.old_days import days_ago
from tests.support.scene import SIGNER, past_account
from tests.support.servers import Database
from worker.store import put_off_work

LEASED = """
update tollwire.outbox set leased_at = clock_timestamp() - $2::text::interval where message_id = $1
"""


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as flow:
        yield flow
    gauges.forget()


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Pool]:
    """The ledger's own role, which is no superuser: PostgreSQL hides much of the others' sessions from it."""
    async with open_flow(database, "ledger") as flow:
        yield flow.pool


@pytest.fixture
async def jetstream(nats_server: NatsServer) -> AsyncIterator[JetStream]:
    async with open_jetstream(
        NatsAccess(nats_url=nats_server.url, nats_token=nats_server.token)
    ) as jetstream:
        await until_streams_are_there(jetstream)
        yield jetstream


def shown(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, f"{name} {labels} is not shown"
    return value


async def publish_bundle(jetstream: JetStream) -> None:
    """One bundle that nobody takes, and the consumer that would."""
    await jetstream.consumer("SMS_SEND", "worker-normal", "sms.send.normal").fetch(1, 0.05)
    bundle = Bundle(lane="normal", carrier_id=1, work=[("0" * 32, 1)])
    await jetstream.publish("sms.send.normal", encode(bundle), message_id="observed")
    await jetstream.ensure_streams()  # looks at how full they are


async def test_work_money_and_the_database_are_shown(flow: Flow, ledger: Pool, jetstream: JetStream) -> None:
    client, carrier = await flow.client(), await flow.carrier()
    items = [accept_item(client, carrier_id=carrier) for _ in range(3)]
    await flow.accept(items)
    await publish_bundle(jetstream)
    await Observer(ledger, jetstream).look()
    held = sum(item.amount_micros for item in items)
    assert shown("tollwire_dispatchable_messages", lane=items[0].lane) == 3
    assert shown("tollwire_queue_oldest_age_seconds", queue=items[0].lane) >= 0
    assert shown("tollwire_credit_micros", currency=items[0].currency, state="held") == held
    assert shown("tollwire_accounts", currency=items[0].currency) == 1
    assert shown("tollwire_postgres_connections_max") >= shown(
        "tollwire_postgres_connections", application="other"
    )
    assert shown("tollwire_postgres_transactions_total", result="committed") > 0
    assert shown("tollwire_postgres_wal_bytes_total") > 0
    assert shown("tollwire_postgres_database_bytes") > 1_000_000
    assert shown("tollwire_postgres_lock_waits") == 0
    assert shown("tollwire_partition_rows", table="messages", age_days="0") >= 0
    assert shown("tollwire_postgres_dead_rows", table="outbox") >= 0
    assert shown("tollwire_partitions_days_ahead") == 7
    assert shown("tollwire_consumer_pending", consumer="worker-normal") >= 1
    assert shown("tollwire_consumer_ack_pending_max", consumer="worker-normal") == ACK_PENDING_MAX
    assert (
        0
        < shown("tollwire_stream_bytes", stream="SMS_SEND")
        < shown("tollwire_stream_bytes_max", stream="SMS_SEND")
    )


async def test_how_long_a_day_waits_for_its_seal_is_shown(
    flow: Flow, ledger: Pool, jetstream: JetStream
) -> None:
    day = days_ago(2)
    await past_account(flow, days_ago=2)
    await Observer(ledger, jetstream).look()
    over = datetime.now(UTC) - datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    assert shown("tollwire_ledger_unsealed_day_seconds") == pytest.approx(over.total_seconds(), abs=60)
    async with flow.pool.acquire() as conn:
        await close_day(conn, day, SIGNER)
    await flow.credit(await flow.client(0), "top_up", 1, "today")
    await Observer(ledger, jetstream).look()
    assert shown("tollwire_ledger_unsealed_day_seconds") == 0


async def test_a_message_that_waits_for_its_time_is_no_work_to_scale_on(
    flow: Flow, ledger: Pool, jetstream: JetStream
) -> None:
    client, carrier = await flow.client(), await flow.carrier()
    await flow.accept(
        [accept_item(client, carrier_id=carrier, send_at=datetime.now(UTC) + timedelta(hours=1))]
    )
    await Observer(ledger, jetstream).look()
    assert [shown("tollwire_dispatchable_messages", lane=lane) for lane in ("express", "normal", "bulk")] == [
        0,
        0,
        0,
    ]


async def test_what_waits_for_a_carrier_that_was_stopped_is_no_work_to_scale_on_nor_an_age_to_wake_anybody(
    flow: Flow, ledger: Pool, jetstream: JetStream
) -> None:
    """It may be away for hours; more workers would ask for it more often."""
    carrier = await flow.carrier(enabled=False)
    (id_,) = await flow.accepted(await flow.client(), carrier_id=carrier, valid_seconds=7_200)
    await flow.later([id_], 900)

    async def told() -> tuple[float, int]:
        await Observer(ledger, jetstream).look()
        age_seconds = shown("tollwire_queue_oldest_age_seconds", queue="normal")
        return shown("tollwire_dispatchable_messages", lane="normal"), round(age_seconds / 100)

    assert await told() == (1, 9)
    await put_off_work(flow.pool, [(id_.hex, 1)], [600.0])
    assert await told() == (0, 0)
    await put_off_work(flow.pool, [(id_.hex, 2)], [0.0])
    assert await told() == (1, 0), "it is due since now"
    await flow.pool.execute(LEASED, id_, "0 seconds")
    assert await told() == (1, 0), "it may be put off in a moment"
    await flow.pool.execute(LEASED, id_, "60 seconds")
    assert await told() == (1, 9), "it waits in the stream, or in a worker"


async def test_what_was_put_off_for_another_reason_is_late_and_counts(
    flow: Flow, ledger: Pool, jetstream: JetStream
) -> None:
    """Its carrier is slow or down, or NATS is: nobody stopped it, and somebody has to hear of it."""
    (id_,) = await flow.accepted(await flow.client(), carrier_id=await flow.carrier(), valid_seconds=7_200)
    await flow.later([id_], 900)
    await put_off_work(flow.pool, [(id_.hex, 1)], [600.0])
    await Observer(ledger, jetstream).look()
    assert shown("tollwire_dispatchable_messages", lane="normal") == 1
    assert shown("tollwire_queue_oldest_age_seconds", queue="normal") == pytest.approx(900, abs=60)


async def test_one_of_several_processes_shows_it_and_another_takes_over(
    flow: Flow, ledger: Pool, jetstream: JetStream
) -> None:
    first, second = Observer(ledger, jetstream), Observer(ledger, jetstream)
    second._name = "another host/1"
    await first.look()
    assert shown("tollwire_observer") == 1
    await second.look()
    assert shown("tollwire_observer") == 0
    assert REGISTRY.get_sample_value("tollwire_postgres_connections", {"application": "other"}) is None
    assert REGISTRY.get_sample_value("tollwire_postgres_wal_bytes_total") is None
    await flow.pool.execute(
        "update tollwire.watermarks set at = at - interval '10 minutes' where name = 'observer'"
    )
    await second.look()
    assert shown("tollwire_observer") == 1


async def test_a_database_that_does_not_answer_is_told_and_no_old_value_is_shown(
    database: Database, jetstream: JetStream
) -> None:
    async with open_flow(database, "ledger") as flow:
        observer = Observer(flow.pool, jetstream)
        await observer.look()
        assert shown("tollwire_connected", dependency="postgresql") == 1
        assert shown("tollwire_observer") == 1
    with pytest.raises(InterfaceError):
        await observer.look()
    assert shown("tollwire_connected", dependency="postgresql") == 0
    assert shown("tollwire_observer") == 0
