"""Bad messages in the streams: what no process of ours would publish, or did publish long ago."""

import json
import random
import uuid
from collections.abc import Iterator

import nats

from tests.chaos.faults import Fault
from tests.chaos.instance import CARRIERS, Instance

SUBJECTS = (
    "sms.send.express",
    "sms.send.normal",
    "sms.send.bulk",
    *(f"sms.receipt.{kind.name}" for kind in CARRIERS),
)
EACH = 20


class Poison(Fault):
    """Publishes garbage, half messages and stale work into every stream of work."""

    name = "bad messages in the streams"

    def __init__(self, drawn: random.Random) -> None:
        self._drawn = drawn

    async def strike(self, instance: Instance) -> None:
        """Publish them."""
        unit = instance.nats[0]
        connection = await nats.connect(unit.url, token=unit.token)
        try:
            stream = connection.jetstream()
            for subject in SUBJECTS:
                for body in bad_bodies(self._drawn):
                    await stream.publish(subject, body)
        finally:
            await connection.close()


def bad_bodies(drawn: random.Random) -> Iterator[bytes]:
    """Bodies that nobody can use."""
    yield from (b"", b"\0", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"[" * 10_000)
    for _ in range(EACH):
        yield drawn.randbytes(drawn.randint(1, 2_000))
    strangers = [[uuid.UUID(int=drawn.getrandbits(128), version=4).hex, 1] for _ in range(50)]
    good = {"v": 1, "lane": "normal", "carrier_id": 1, "work": strangers}
    yield json.dumps(good).encode()
    yield json.dumps(good | {"carrier_id": 30_000}).encode()
    yield json.dumps(good | {"carrier_id": -1}).encode()
    yield json.dumps(good | {"work": [["not a uuid", 1]]}).encode()
    yield json.dumps(good | {"work": [[strangers[0][0], 2**40]]}).encode()
    yield json.dumps(good | {"work": [[strangers[0][0], -1]]}).encode()
    yield json.dumps(good).encode()[: drawn.randint(2, 100)]
    yield json.dumps({"v": 1, "carrier_id": 1, "receipt_ids": [one for one, _ in strangers]}).encode()
