"""tollwire-dlr on one screen: what it opens, which loops it runs."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from dlr import traces
from dlr.deliver import CALLBACKS, DELAY, Deliver
from dlr.door import open_door
from dlr.endpoint_book import EndpointBook, load_endpoint_book
from dlr.endpoints import Endpoints
from dlr.health import HealthNotes
from dlr.poster import CallbackPoster, CallbackSettings
from dlr.receive import Receive
from dlr.settings import DlrSettings
from dlr.settle import RECEIPTS, Settle
from dlr.wake import consume_wakes
from shared.runtime.clock import Clock, keep_clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Loop, every
from shared.runtime.monitor import open_monitor
from shared.runtime.postgres import Connection, open_pool
from shared.runtime.settings import load
from shared.runtime.statistics import Statistics, Watched
from shared.storage.config import (
    READ_VERSION_WITH_CALLBACKS,
    CarrierConfig,
    ConfigWatch,
    Load,
    load_carriers,
    polling,
)
from shared.storage.facts import FactPublisher
from shared.storage.schema import readiness_checks, startup_checks, wait_for_schema

SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Config:
    """dlr's part of the configuration."""

    carriers: dict[int, CarrierConfig]
    book: EndpointBook


def load_with(keyring: Keyring) -> Load[Config]:
    """Return what loads the configuration, secrets opened."""
    book: EndpointBook | None = None

    async def load_config(connection: Connection, _version: int) -> Config:
        nonlocal book
        carriers = await load_carriers(connection)
        book = await load_endpoint_book(connection, keyring, book)
        return Config(carriers, book)

    return load_config


WATCHED = (
    Watched("receipts", RECEIPTS, by="outcome"),
    Watched("callbacks", CALLBACKS, by="result"),
    Watched("callback_delay", DELAY),
)


def open_poster(clock: Clock) -> CallbackPoster:
    """The poster of callbacks, signed by the database's time: a receiver refuses what a wrong clock says."""
    return CallbackPoster(load(CallbackSettings, os.environ), unix_seconds=lambda: clock.now_ms() / 1000)


@asynccontextmanager
async def dlr() -> AsyncIterator[Sequence[Loop]]:
    """Everything this process opens, and everything it runs."""
    settings = load(DlrSettings, os.environ)
    keyring = Keyring.load(settings.keyring_file)
    async with (
        open_pool(settings, application_name="tollwire-dlr") as pool,
        open_clock(pool) as clock,
        open_jetstream(settings, name="tollwire-dlr") as jetstream,
        FactPublisher(jetstream) as facts,
        open_poster(clock) as poster,
        HealthNotes(pool) as health,
        Endpoints(clock, health) as endpoints,
        Deliver(pool, poster, endpoints, clock) as deliver,
        Settle(pool, facts, deliver) as settle,
        Receive(pool, settle, keyring, clock, trusted_proxies=settings.trusted_proxies) as receive,
        open_monitor(settings, readiness_checks(pool), startup=startup_checks(pool)),
    ):
        watch = ConfigWatch(pool, load_with(keyring), read_version=READ_VERSION_WITH_CALLBACKS)

        async def follow() -> None:
            asked_at = clock.monotonic()
            if await watch.refresh():
                receive.apply(watch.current.carriers)
            deliver.apply(watch.current.book, asked_at)

        await wait_for_schema(pool)
        await follow()
        async with open_door(settings, receive):
            yield [
                partial(consume_wakes, jetstream, settle),
                partial(settle.run_sweeps, interval_seconds=SWEEP_SECONDS),
                partial(every, interval_seconds=SWEEP_SECONDS, run_once=deliver.sweep),
                partial(every, interval_seconds=SWEEP_SECONDS, run_once=endpoints.follow),
                deliver.stop_with,
                polling(follow),
                partial(keep_clock, clock, pool),
                facts.run,
                Statistics(WATCHED).run,
                partial(traces.run, pool),
            ]
