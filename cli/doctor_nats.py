"""NATS: every server that is named, its version, JetStream, the streams and who works on them."""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import nats.errors
import nats.js.errors
from nats.js.client import JetStreamContext

from cli.doctor_findings import Finding, fault, note, ok, warning
from cli.doctor_place import Access, Place
from cli.network_trouble import network_trouble
from cli.servers import NATS_URL
from embedded.nats import VERSION_MIN
from shared.runtime.nats_login import NatsClient, nats_hint
from shared.runtime.stream_times import ask_now_ms
from shared.runtime.streams import MESSAGE_BYTES_MAX, STREAMS, Stream, differs

CONNECT_SECONDS: Final = 3.0
PORT_DEFAULT: Final = 4222
# A server says a few hundred bytes of itself before anybody logs in.
INFO_BYTES_MAX: Final = 65_536
STORE_FULL: Final = 0.8
# Whoever looks for lost work measures NATS's clock, but not that of another server of the cluster, which led
# before: there it allows for 5 s.
SKEW_SEEN_SECONDS: Final = 2.0
LEADER_OF: Final = "SMS_SEND"
# Who takes work from which stream: made by each when it first connects.
CONSUMERS: Final = (
    ("SMS_SEND", "worker-express", "worker"),
    ("SMS_SEND", "worker-normal", "worker"),
    ("SMS_SEND", "worker-bulk", "worker"),
    ("SMS_RECEIPT", "dlr", "dlr"),
)
START_NATS: Final = "Start it, or name another in TOLLWIRE_NATS_URL. Until then messages wait in PostgreSQL."


class _Info(msgspec.Struct):
    """What a server says to whoever connects."""

    version: str = ""
    jetstream: bool = False
    cluster: str = ""
    max_payload: int = 0


async def check_nats(place: Place) -> list[Finding]:
    """Look at each server, then log in and look at the streams."""
    settings = place.access
    urls = [url.strip() for url in settings.nats_url.split(",") if url.strip()]
    start = place.starts(NATS_URL) or START_NATS
    looked = await asyncio.gather(*(_look(url, start) for url in urls))
    findings = [finding for finding, _ in looked]
    infos = [info for _, info in looked if info is not None]
    if not infos:
        return findings
    findings += _about(infos, settings)
    return [*findings, *await _check_jetstream(settings)]


async def _look(url: str, start: str) -> tuple[Finding, _Info | None]:
    """Connect without logging in: a server introduces itself first."""
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or PORT_DEFAULT}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or PORT_DEFAULT, limit=INFO_BYTES_MAX
            )
            try:
                said = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        text, what_to_do = network_trouble(error)
        return fault("nats", f"{where} {text}", what_to_do or start), None
    if not said.startswith(b"INFO "):
        return fault("nats", f"{where} is no NATS server", "Set TOLLWIRE_NATS_URL right."), None
    info = msgspec.json.decode(said[len(b"INFO ") :], type=_Info)
    if _version(info.version) < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        return fault("nats", f"{where} is {info.version}; {needed} or newer is needed", "Upgrade it."), info
    return ok("nats", f"{info.version} answers at {where}"), info


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _about(infos: Sequence[_Info], settings: Access) -> list[Finding]:
    findings = []
    if not all(info.jetstream for info in infos):
        findings.append(fault("nats", "JetStream is off", "Add a jetstream { } block to its configuration."))
    smallest = min(info.max_payload for info in infos)
    if smallest < MESSAGE_BYTES_MAX:
        text = f"max_payload is {smallest} bytes; bundles may have {MESSAGE_BYTES_MAX}"
        findings.append(fault("nats", text, f"Set max_payload to {MESSAGE_BYTES_MAX} or more."))
    if settings.nats_replicas == 1 and any(info.cluster for info in infos):
        text = "a cluster, and each stream has one copy: a lost server delays what it held"
        findings.append(warning("nats", text, "Set TOLLWIRE_NATS_REPLICAS=3."))
    return findings


async def _check_jetstream(settings: Access) -> list[Finding]:
    async def quiet(_error: Exception) -> None:
        """What comes here is raised as well."""

    client = NatsClient(settings)
    try:
        await client.connect(
            servers=[url.strip() for url in settings.nats_url.split(",")],
            **client.login(),
            name="tollwire-doctor",
            connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type] # seconds; a float works
            allow_reconnect=False,
            error_cb=quiet,
        )
        findings = await _look_at_streams(client.jetstream(timeout=CONNECT_SECONDS), settings)
        return [*findings, *await _check_clock(client)]
    except (nats.errors.Error, OSError) as error:
        text = str(error) or type(error).__name__
        if client.is_connected:
            what_to_do = "Look into its log; a cluster needs a majority of its servers."
            return [fault("streams", f"JetStream does not answer: {text}", what_to_do)]
        what_to_do = nats_hint(error) or "Look into the log of the NATS server."
        return [fault("nats", f"the login fails: {text}", what_to_do)]
    finally:
        await client.close()
        client.hang_up()


async def _look_at_streams(jetstream: JetStreamContext, settings: Access) -> list[Finding]:
    findings = [await _check_stream(jetstream, stream, settings) for stream in STREAMS]
    bad = [finding for finding in findings if finding is not None]
    if not bad:
        bad = [ok("streams", f"{', '.join(stream.name for stream in STREAMS)} are as they should be")]
    consumers = [await _check_consumer(jetstream, *consumer) for consumer in CONSUMERS]
    waiting = sum(pending for pending, _ in consumers)
    found = [finding for _, finding in consumers if finding is not None]
    if not found:
        found = [ok("consumers", f"every lane has a worker; {waiting} bundles wait")]
    return [*bad, *found, *await _check_store(jetstream)]


async def _check_stream(jetstream: JetStreamContext, stream: Stream, settings: Access) -> Finding | None:
    try:
        info = await jetstream.stream_info(stream.name)
    except nats.js.errors.NotFoundError:
        text = f"{stream.name} is not there"
        return warning("streams", text, "Any service of ours makes it within seconds: start one.")
    wanted = stream.config(
        replicas=settings.nats_replicas,
        store_bytes=settings.nats_store_bytes,
        compression=settings.nats_compression,
    )
    if differs(info.config, wanted):
        text = f"{stream.name} is otherwise than these settings say"
        what_to_do = "Give every service the same TOLLWIRE_NATS_REPLICAS and TOLLWIRE_NATS_STORE_BYTES."
        return warning("streams", text, what_to_do)
    used, limit = info.state.bytes, wanted.max_bytes or 0
    if limit and used > limit * STORE_FULL:
        text = f"{stream.name} is {used * 100 // limit} % full"
        return warning("streams", text, "See what does not work it off; or raise TOLLWIRE_NATS_STORE_BYTES.")
    return None


async def _check_consumer(
    jetstream: JetStreamContext, stream: str, name: str, service: str
) -> tuple[int, Finding | None]:
    """How many bundles wait, and what is wrong: nobody asks for work, or never has."""
    try:
        info: Any = await jetstream.consumer_info(stream, name)
    except nats.js.errors.NotFoundError:
        text = f"{name} is not there: no {service} was connected yet"
        return 0, note("consumers", text, f"Start tollwire-{service}.")
    pending = (info.num_pending or 0) + (info.num_ack_pending or 0)
    # A pull is open nearly always; between two there is work in hand.
    if pending and not info.num_waiting and not info.num_ack_pending:
        text = f"{name}: {pending} bundles wait, and nobody takes them"
        return pending, warning("consumers", text, f"Start tollwire-{service}, or look into its log.")
    return pending, None


async def _check_clock(client: NatsClient) -> list[Finding]:
    """Warn of a clock that is off: what a stream has is dated by it."""
    asked_at = time.time()
    try:
        there = await ask_now_ms(client, LEADER_OF, CONNECT_SECONDS) / 1000
    except ValueError:  # the stream is not there, which was said
        return []
    ahead, behind = there - time.time(), asked_at - there
    if max(ahead, behind) <= SKEW_SEEN_SECONDS:
        return []
    where = f"{ahead:.1f} s ahead of" if ahead > 0 else f"{behind:.1f} s behind"
    text = f"the NATS server that leads {LEADER_OF} is {where} this machine"
    return [
        warning("clock", text, "Let NTP set the clocks of both machines, and of every server of a cluster.")
    ]


async def _check_store(jetstream: JetStreamContext) -> list[Finding]:
    account = await jetstream.account_info()
    limit = account.limits.max_storage
    if limit > 0 and account.storage > limit * STORE_FULL:
        text = f"the account's storage is {account.storage * 100 // limit} % full"
        return [warning("streams", text, "Raise its limit, or see what does not work the streams off.")]
    return []
