"""tollwire-worker on one screen: what it opens, which loops it runs."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from shared.runtime.clock import keep_clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Loop, every
from shared.runtime.monitor import open_monitor
from shared.runtime.postgres import Connection, open_pool
from shared.runtime.settings import load
from shared.runtime.statistics import Statistics, Watched
from shared.storage.config import CarrierConfig, ConfigWatch, Routes, load_carriers, load_routes, polling
from shared.storage.facts import FactPublisher
from shared.storage.schema import readiness_checks, startup_checks, wait_for_schema
from worker.consume import BUNDLES, lane_loops
from worker.desks import Desks
from worker.journal import Journal
from worker.outcomes import OUTCOMES
from worker.overhear import LOOK_SECONDS, Overhear
from worker.settings import WorkerSettings
from worker.submit import ACCEPT_TO_SUBMIT, Submit


@dataclass(frozen=True, slots=True)
class Config:
    """The worker's part of the configuration."""

    carriers: dict[int, CarrierConfig]
    routes: Routes


async def load_config(connection: Connection, _version: int) -> Config:
    """Read it in one snapshot."""
    return Config(await load_carriers(connection), await load_routes(connection))


WATCHED = (
    Watched("submits", OUTCOMES, by="outcome"),
    Watched("accept_to_submit", ACCEPT_TO_SUBMIT),
    Watched("bundles", BUNDLES, by="result"),
)


@asynccontextmanager
async def worker() -> AsyncIterator[Sequence[Loop]]:
    """Everything this process opens, and everything it runs."""
    settings = load(WorkerSettings, os.environ)
    keyring = Keyring.load(settings.keyring_file)
    async with (
        open_pool(settings, application_name="tollwire-worker") as pool,
        open_clock(pool) as clock,
        open_jetstream(settings, name="tollwire-worker") as jetstream,
        FactPublisher(jetstream) as facts,
        Journal(pool, jetstream, facts, clock) as journal,
        Desks(keyring, settings.lanes) as desks,
        open_monitor(settings, readiness_checks(pool), startup=startup_checks(pool)),
    ):
        watch = ConfigWatch(pool, load_config)

        async def follow() -> None:
            if await watch.refresh():
                journal.apply(watch.current.carriers)
                await desks.apply(watch.current.carriers, watch.current.routes)

        await wait_for_schema(pool)
        await follow()
        submit = Submit(desks, journal, keyring, clock)
        overhear = Overhear(jetstream, settings.lanes, submit.places)
        yield [
            *lane_loops(jetstream, settings.lanes, submit),
            partial(every, interval_seconds=LOOK_SECONDS, run_once=overhear.look),
            polling(follow),
            partial(keep_clock, clock, pool),
            desks.close_at_the_stop,
            facts.run,
            Statistics(WATCHED).run,
        ]
