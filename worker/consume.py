"""Takes bundles of a lane from JetStream, and acknowledges them when all of them is recorded (DESIGN 2)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter

from shared.events.bundles import Bundle, MalformedEvent, decode
from shared.runtime.batcher import Busy
from shared.runtime.consumers import PULL_SECONDS
from shared.runtime.crash_points import crash_point
from shared.runtime.jetstream import IN_PROGRESS_SECONDS, JetStream, Msg
from shared.runtime.loops import Loop, Stop
from shared.runtime.postgres import OutcomeUnknown
from worker import traces
from worker.lines import SHORT_SECONDS
from worker.submit import Submit

STREAM: Final = "SMS_SEND"
# Bundles taken at once; at low load each holds one message, at high load a hundred.
FETCH_MAX: Final = 100
# Groups of bundles that each lane works on side by side: its reserved capacity, so that a slow campaign
# never stands before a one-time password. A carrier that is slow holds one up for SHORT_SECONDS at most.
GROUPS_IN_FLIGHT: Final = 4
LINGER_SECONDS: Final = 0.02
# After a group of this size, about fifty messages, there is a crowd: waiting three times as long makes fewer
# and larger claims, of which each message costs less.
CROWD_BYTES: Final = 2_000
CROWD_LINGER_SECONDS: Final = 0.06
# What is given back after trouble comes again a little later.
NAK_SECONDS: Final = 1.0

BUNDLES: Final = Counter(
    "tollwire_bundles_total", "Bundles by lane and what became of them", ["lane", "result"]
)

_Work = tuple[Msg, Bundle]

_log = structlog.get_logger(__name__)


def lane_loops(jetstream: JetStream, lanes: Sequence[str], submit: Submit) -> list[Loop]:
    """The loops of a worker: one a lane."""
    return [partial(consume, jetstream, lane, submit) for lane in lanes]


async def consume(jetstream: JetStream, lane: str, submit: Submit, stop: Stop) -> None:
    """Take and do the work of a lane until the stop; then finish what was taken."""
    groups: set[asyncio.Task[None]] = set()
    try:
        await _fetch_until(jetstream, lane, submit, stop, groups)
        await asyncio.gather(*groups)
    except asyncio.CancelledError:
        left = list(groups)
        for group in left:
            group.cancel()
        # What they give back and record goes through what is closed after us.
        await asyncio.gather(*left, return_exceptions=True)
        raise


async def _fetch_until(
    jetstream: JetStream, lane: str, submit: Submit, stop: Stop, groups: set[asyncio.Task[None]]
) -> None:
    places = asyncio.Semaphore(GROUPS_IN_FLIGHT)
    consumer = jetstream.consumer(STREAM, f"worker-{lane}", f"sms.send.{lane}")
    linger_seconds = LINGER_SECONDS
    while not stop.requested:
        await places.acquire()
        await asyncio.sleep(linger_seconds)
        messages = await consumer.fetch(FETCH_MAX, PULL_SECONDS, stop=stop)
        is_crowd = sum([len(message.data) for message in messages]) > CROWD_BYTES
        linger_seconds = CROWD_LINGER_SECONDS if is_crowd else LINGER_SECONDS
        if not messages:
            places.release()
            continue
        task = asyncio.create_task(_group(lane, submit, messages, stop, places))
        groups.add(task)
        task.add_done_callback(groups.discard)


async def _group(
    lane: str, submit: Submit, messages: Sequence[Msg], stop: Stop, places: asyncio.Semaphore
) -> None:
    """Do one group of bundles. Its place is free when it is done, or when one of its carriers is slow.

    Each carrier's part is done by itself: what one lets wait is no matter of the others.
    """
    works: dict[asyncio.Task[None], int] = {}
    try:
        parts = await _by_carrier(lane, messages)
        for carrier_id, part in parts.items():
            works[asyncio.create_task(_work_off(lane, submit, carrier_id, part, stop))] = carrier_id
        left = set(works)
        while left:
            _, left = await asyncio.wait(left, timeout=SHORT_SECONDS)
            if not submit.places.may_hold_up(lane, [works[work] for work in left]):
                break
    except asyncio.CancelledError:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        raise
    finally:
        places.release()
    await asyncio.gather(*works)


async def _work_off(lane: str, submit: Submit, carrier_id: int, part: Sequence[_Work], stop: Stop) -> None:
    """Do bundles of one carrier and answer them. Never raises: the others are not to suffer."""
    messages = [message for message, _ in part]
    keeper = asyncio.create_task(_keep_in_progress(messages))
    try:
        with traces.bundles(lane, messages):
            work = [pair for _, bundle in part for pair in bundle.work]
            await submit.carry(lane, carrier_id, work, len(part), stop)
        for message in messages:
            await message.ack()
        crash_point("record.after_ack")
        BUNDLES.labels(lane, "done").inc(len(messages))
    except (OutcomeUnknown, Busy) as error:
        # What was claimed the journal gives back, or its deadline recovers it; what was not comes again.
        _log.warning("bundles given back", lane=lane, bundles=len(messages), error=str(error))
        await _give_back(lane, messages)
    except Exception:  # noqa: BLE001 - logged and given back; the others are not to suffer
        _log.exception("bundles failed", lane=lane, bundles=len(messages))
        await _give_back(lane, messages)
    except asyncio.CancelledError:
        await _give_back(lane, messages)  # else what is not claimed yet waits until they count as lost
        raise
    finally:
        keeper.cancel()


async def _by_carrier(lane: str, messages: Sequence[Msg]) -> dict[int, list[_Work]]:
    parts: dict[int, list[_Work]] = {}
    for message in messages:
        try:
            bundle = decode(message.data)
        except MalformedEvent as error:
            # Nobody can ever read it; its messages' leases end, and the clockwork dispatches them anew.
            _log.error("malformed bundle dropped", lane=lane, error=str(error))
            BUNDLES.labels(lane, "malformed").inc()
            await message.term()
        else:
            parts.setdefault(bundle.carrier_id, []).append((message, bundle))
    return parts


async def _give_back(lane: str, messages: Sequence[Msg]) -> None:
    BUNDLES.labels(lane, "given_back").inc(len(messages))
    await asyncio.gather(*(message.nak(NAK_SECONDS) for message in messages), return_exceptions=True)


async def _keep_in_progress(messages: Sequence[Msg]) -> None:
    while True:
        await asyncio.sleep(IN_PROGRESS_SECONDS)
        await asyncio.gather(*(message.in_progress() for message in messages), return_exceptions=True)
