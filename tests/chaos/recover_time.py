"""How long `tollwire recover` takes: on a database with so many messages, and NATS that tells of so many.

    python -m tests.chaos.recover_time 10000 100000

For each number twice: so many messages wait at the moment of the restore and were sent and delivered after
it, each decided on in the database; then so many were accepted after it, and only facts know them. The clock
runs from the command's start to its end. Results stand in results/recover.json.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import nats
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from shared.events.facts import BUNDLE_MAX, Fact, FactBundle, encode
from shared.runtime.postgres import open_pool
from tests.chaos.instance import Instance, open_instance
from tests.chaos.processes import environ_of_ours
from tests.support.flow import PRICE_MICROS, Flow, PoolSettings, accept_item, new_id

RESULTS: Final = Path(__file__).with_name("results") / "recover.json"
CLIENTS: Final = 20
FLUSH: Final = 500
# Publishes that wait for their acknowledgement at once.
PUBLISHES: Final = 50
RECOVER_SECONDS: Final = 3_600.0


async def accept(flow: Flow, number: int) -> list[UUID]:
    """So many messages of twenty clients wait, for two carriers: one recognises our ids."""
    carriers = [await flow.carrier(), await flow.carrier(idempotent_submit=True)]
    clients = [await flow.client() for _ in range(CLIENTS)]
    ids: list[UUID] = []
    while len(ids) < number:
        items = [
            accept_item(clients[n % CLIENTS], carrier_id=carriers[n % 2])
            for n in range(min(FLUSH, number - len(ids)))
        ]
        await flow.accept(items)
        ids += [item.message_id for item in items]
    return ids


def bundles(ids: Sequence[UUID], status: str) -> Iterator[bytes]:
    """What was told of these messages, as the services bundle it."""
    for start in range(0, len(ids), BUNDLE_MAX):
        now = datetime.now(UTC)
        facts = [
            Fact(
                message_id=id_.hex, client_id=1, status=status, at=now, region="DE", lane="normal",
                segments=1, amount_micros=PRICE_MICROS, currency="EUR", carrier_id=1, attempt_no=1,
                msisdn_hash="0" * 32,
            )
            for id_ in ids[start : start + BUNDLE_MAX]
        ]  # fmt: skip
        yield encode(FactBundle(facts=facts))


async def tell(jetstream: JetStreamContext, ids: Sequence[UUID], statuses: Sequence[str]) -> None:
    """Publish these facts of all messages."""
    for status in statuses:
        waiting = []
        for body in bundles(ids, status):
            waiting.append(jetstream.publish(f"sms.event.{status.lower()}", body, timeout=60.0))
            if len(waiting) >= PUBLISHES:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def recover(instance: Instance, moment: datetime) -> tuple[float, dict[str, Any]]:
    """Run the command; how long it took, and what it says.

    Raises:
        RuntimeError: it failed.
    """
    node = instance.nats[0]
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "recover", "--json", "--restored-to", moment.isoformat(),
        "--dsn", instance.dsn("tollwire_ledger"), "--list", str(instance.folder / "recovered.csv"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=instance.folder,
        env=environ_of_ours() | {"TOLLWIRE_NATS_URL": node.url, "TOLLWIRE_NATS_TOKEN": node.token},
    )  # fmt: skip
    async with asyncio.timeout(RECOVER_SECONDS):
        said, trouble = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(trouble.decode(errors="replace"))
    return time.monotonic() - begun, json.loads(said)


@asynccontextmanager
async def open_scene() -> AsyncIterator[tuple[Instance, Flow, JetStreamContext]]:
    """Servers without services, and the stream of facts."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-recover-"))
    try:
        async with open_instance(folder, 1, "single") as instance:
            node = instance.nats[0]
            connection = await nats.connect(node.url, token=node.token)
            jetstream = connection.jetstream()
            await jetstream.add_stream(StreamConfig(name="SMS_EVENT", subjects=["sms.event.*"]))
            pool_settings = PoolSettings(instance.dsn("postgres"))
            async with open_pool(pool_settings, application_name="recover-time") as pool:
                yield instance, Flow(pool), jetstream
            await connection.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def measure(number: int, *, is_waiting: bool) -> dict[str, Any]:
    """One restore: what there was to decide on, and how long that took."""
    async with open_scene() as (instance, flow, jetstream):
        ids = await accept(flow, number if is_waiting else 0)
        moment = datetime.now(UTC)
        ids = ids or [new_id() for _ in range(number)]
        statuses = ("SENT", "DELIVERED") if is_waiting else ("QUEUED", "SENT", "DELIVERED")
        await tell(jetstream, ids, statuses)
        seconds, said = await recover(instance, moment)
    decided = said["ended" if is_waiting else "gone"]
    if decided != {"DELIVERED": number}:
        raise RuntimeError(f"of {number} messages it says {said}")
    return {
        "messages": number,
        "what": "waited" if is_waiting else "accepted since",
        "facts": number * len(statuses),
        "seconds": round(seconds, 1),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


async def main(numbers: Sequence[int]) -> None:
    """Measure, keep, print."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for number in numbers:
        for is_waiting in (True, False):
            row = await measure(number, is_waiting=is_waiting)
            print(row, flush=True)
            same = (row["messages"], row["what"])
            rows = [one for one in rows if (one["messages"], one["what"]) != same] + [row]
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main([int(word) for word in sys.argv[1:]] or [10_000, 100_000]))
