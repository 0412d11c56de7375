"""tollwire-ledger on one screen: what it opens, which loops it runs."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ledger.bookkeeping import Bookkeeping
from ledger.clockwork import DUE, Clockwork
from ledger.dead_letters import DeadLetters
from ledger.observe import WORK_SECONDS, Observer
from ledger.reseal import Reseal
from ledger.retention import Retention
from ledger.retention_settings import RetentionSettings
from ledger.seal_export import SealExport
from ledger.settings import LedgerSettings
from ledger.suspended import Suspended
from shared.runtime.clock import keep_clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Loop, every
from shared.runtime.monitor import open_monitor
from shared.runtime.postgres import open_pool
from shared.runtime.settings import load
from shared.runtime.statistics import Statistics, Watched
from shared.storage.facts import FactPublisher
from shared.storage.schema import readiness_checks, startup_checks, wait_for_schema

# What a killed publisher had in hand waits for this and for what its clock may differ, 5 s.
LOST_LEASES_SECONDS = 2.0
SUSPENDED_SECONDS = 5.0
DEAD_LETTERS_SECONDS = 2.0
# A carrier that is new has its first dead letter later than this.
CARRIERS_SECONDS = 60.0
PARTITIONS_SECONDS = 600.0
RESEAL_SECONDS = 60.0
SEAL_EXPORT_SECONDS = 60.0


WATCHED = (Watched("outbox", DUE, by="work"),)


@asynccontextmanager
async def ledger() -> AsyncIterator[Sequence[Loop]]:
    """Everything this process opens, and everything it runs."""
    settings = load(LedgerSettings, os.environ)
    async with (
        open_pool(settings, application_name="tollwire-ledger") as pool,
        open_clock(pool) as clock,
        open_jetstream(settings, name="tollwire-ledger") as jetstream,
        FactPublisher(jetstream) as facts,
        open_monitor(settings, readiness_checks(pool), startup=startup_checks(pool)),
    ):
        await wait_for_schema(pool)
        clockwork = Clockwork(pool, jetstream, facts)
        suspended = Suspended(pool, clockwork.expire)
        letters = DeadLetters(pool, jetstream)
        reseal = Reseal(pool, Path(settings.keyring_file))
        bookkeeping = Bookkeeping(pool, settings.postgres_dsn, Keyring.load(settings.keyring_file))
        seals = SealExport(pool, Path(settings.seals_folder) if settings.seals_folder else None)
        yield [
            # First: after a long stop all else waits for today's.
            partial(every, interval_seconds=PARTITIONS_SECONDS, run_once=clockwork.make_partitions),
            partial(every, interval_seconds=settings.turn_seconds, run_once=clockwork.turn),
            partial(every, interval_seconds=LOST_LEASES_SECONDS, run_once=clockwork.end_lost_leases),
            partial(every, interval_seconds=settings.expire_holds_seconds, run_once=clockwork.expire_holds),
            partial(every, interval_seconds=SUSPENDED_SECONDS, run_once=suspended.run_once),
            partial(every, interval_seconds=DEAD_LETTERS_SECONDS, run_once=letters.run_once),
            partial(every, interval_seconds=CARRIERS_SECONDS, run_once=letters.show_carriers),
            partial(every, interval_seconds=WORK_SECONDS, run_once=Observer(pool, jetstream).look),
            partial(every, interval_seconds=settings.verify_seconds, run_once=bookkeeping.step),
            bookkeeping.run_closing,
            partial(every, interval_seconds=SEAL_EXPORT_SECONDS, run_once=seals.run_once),
            partial(every, interval_seconds=RESEAL_SECONDS, run_once=reseal.run_once),
            Retention(pool, load(RetentionSettings, os.environ)).run,
            partial(keep_clock, clock, pool),
            facts.run,
            Statistics(WATCHED).run,
        ]
