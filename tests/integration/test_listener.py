"""Who listens to a subject hears what comes in while it does, beside the consumer that gets all of it."""

import asyncio

from embedded.nats import NatsServer
from shared.runtime.jetstream import open_jetstream
from shared.runtime.server_settings import NatsAccess

WAIT_SECONDS = 20.0
EXPRESS = "sms.send.express"


async def test_a_listener_hears_what_comes_in_while_it_listens_and_takes_it_from_nobody(
    nats_server: NatsServer,
) -> None:
    settings = NatsAccess(
        nats_url=nats_server.url, nats_token=nats_server.token, nats_store_bytes=256 * 2**20
    )
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    async with asyncio.timeout(60), open_jetstream(settings) as jetstream:
        assert await jetstream.wait_connected(WAIT_SECONDS)
        await jetstream.ensure_streams()
        listener = jetstream.listener(EXPRESS, heard.put_nowait)

        async def publish(payload: bytes) -> None:
            await jetstream.publish(EXPRESS, payload, message_id=payload.decode())

        await publish(b"before")
        await listener.keep(is_wanted=True)
        await publish(b"one")
        assert await heard.get() == b"one"
        await listener.keep(is_wanted=False)
        await publish(b"unheard")
        await listener.keep(is_wanted=True)
        client = jetstream._connection.client
        await client.close()  # as nats-py does by itself now and then; it is replaced
        while jetstream._connection.client is client or not jetstream.connected:
            await jetstream._connection.wait_change(0.1)
        await listener.keep(is_wanted=True)
        await publish(b"two")
        assert await heard.get() == b"two"
        messages = await jetstream.consumer("SMS_SEND", "express", EXPRESS).fetch(10, WAIT_SECONDS)
        assert [message.data for message in messages] == [b"before", b"one", b"unheard", b"two"]
