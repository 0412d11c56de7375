"""tollwire-api on one screen: what it opens, which loops it runs."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial

from api import app, traces
from api.accept import Accept
from api.admission import Admission
from api.authenticate import Authenticator
from api.cancel import Cancels
from api.counted import WATCHED
from api.follow import Follower
from api.health import Health
from api.in_flight import InFlight
from api.key_loader import KeyLoader
from api.key_seals import KeySeals
from api.key_uses import WRITE_EVERY_SECONDS, KeyUses
from api.limits import Limits
from api.orders import Orders
from api.places import ClientPlaces
from api.publish import Publisher
from api.reader import open_reader
from api.resources import Resources
from api.settings import ApiSettings, split_pool
from api.valkey_script import open_script
from shared.domain.callback_urls import CallbackUrlSettings, UrlPolicy, policy_of
from shared.runtime.clock import keep_clock, open_clock
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring
from shared.runtime.loops import Loop, every
from shared.runtime.monitor import open_monitor
from shared.runtime.postgres import Pool, open_pool, open_second_pool
from shared.runtime.settings import load
from shared.runtime.statistics import Statistics
from shared.storage.facts import FactPublisher
from shared.storage.schema import startup_checks, wait_for_schema
from shared.storage.sealed import tell_what_stays_shut


@asynccontextmanager
async def api() -> AsyncIterator[Sequence[Loop]]:
    """Everything this process opens, and everything it runs."""
    settings = load(ApiSettings, os.environ)
    keyring = Keyring.load(settings.keyring_file)
    async with (
        _open_pools(settings) as (pool, others),
        open_clock(pool) as clock,
        open_jetstream(settings, name="tollwire-api") as jetstream,
        FactPublisher(jetstream) as facts,
        Publisher(pool, jetstream, facts, clock) as publisher,
        open_script(settings) as script,
        Limits(script) as limits,
        KeyLoader(pool) as keys,
        open_reader(settings, others) as reader,
    ):
        uses, url_policy, places = KeyUses(pool), _url_policy(), ClientPlaces(others.get_max_size())
        authenticator = Authenticator(keys.load, clock=clock, seals=KeySeals(keyring, uses))
        follower = Follower(pool, authenticator)
        health = Health(pool, {"nats": lambda: jetstream.connected, "valkey": lambda: limits.is_shared})
        async with (
            Accept(pool, Orders(follower.prices, keyring, clock, url_policy), publisher) as accept,
            Cancels(others, facts, places.reads) as cancels,
            open_monitor(settings, {"postgres and schema": health.check}, startup=startup_checks(pool)),
        ):
            resources = Resources(
                others, accept, follower.prices, limits, InFlight(), keyring, clock, health, url_policy,
                facts, reader, places, cancels,
            )  # fmt: skip
            await _wait_for_database(others, keyring, follower)
            with closing(authenticator):
                yield [
                    partial(app.serve, settings, resources, Admission(authenticator, limits, uses, settings)),
                    *follower.loops(),
                    partial(every, interval_seconds=WRITE_EVERY_SECONDS, run_once=uses.write),
                    partial(keep_clock, clock, pool),
                    partial(every, interval_seconds=reader.look_seconds, run_once=reader.look),
                    facts.run,
                    Statistics(WATCHED).run,
                    partial(traces.run, pool),
                ]
                await uses.write()


@asynccontextmanager
async def _open_pools(settings: ApiSettings) -> AsyncIterator[tuple[Pool, Pool]]:
    """The connections that accept messages and know keys, and those of reads, replays and operators."""
    hot, others = split_pool(settings)
    async with (
        open_pool(hot, application_name="tollwire-api") as hot_pool,
        open_second_pool(others, application_name="tollwire-api") as others_pool,
    ):
        yield hot_pool, others_pool


async def _wait_for_database(pool: Pool, keyring: Keyring, follower: Follower) -> None:
    await wait_for_schema(pool)
    await tell_what_stays_shut(pool, keyring)
    await follower.poll()
    await follower.prices.catch_up()


def _url_policy() -> UrlPolicy:
    return policy_of(load(CallbackUrlSettings, os.environ))
