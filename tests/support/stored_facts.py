"""What the stream of facts holds."""

import nats

from shared.events.facts import Fact, decode


async def stored_facts(url: str, token: str) -> list[Fact]:
    """All facts in the stream, oldest first; an empty token: none is asked for."""
    connection = await nats.connect(url, token=token or None)
    try:
        api = connection.jetstream()
        state = (await api.stream_info("SMS_EVENT")).state
        found = [
            await api.get_msg("SMS_EVENT", n) for n in range(max(state.first_seq, 1), state.last_seq + 1)
        ]
    finally:
        await connection.close()
    return [fact for message in found for fact in decode(message.data or b"").facts]
