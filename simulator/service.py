"""The simulated carrier on one screen: what it opens, and what it runs."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from shared.runtime.listening import told_by_settings
from shared.runtime.loops import Loop
from shared.runtime.monitor import open_monitor
from shared.runtime.settings import SettingsError, load
from simulator.exchange import Exchange
from simulator.handlers import Handlers
from simulator.journal import Journal
from simulator.receipts import Receipts
from simulator.rules import Rules
from simulator.settings import Settings

# Long enough to answer what is in the works, short enough for a restart; hanging requests are cut.
SHUTDOWN_SECONDS = 1.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def simulator() -> AsyncIterator[Sequence[Loop]]:
    """Everything this process opens, and everything it runs."""
    settings = load(Settings, os.environ)
    rules = read_rules(settings.simulator_rules)
    async with open_monitor(settings, {}), listening(settings, rules) as (url, receipts):
        _log.info("listening", url=url)
        yield [receipts.watch]


@asynccontextmanager
async def listening(settings: Settings, rules: Rules) -> AsyncIterator[tuple[str, Receipts]]:
    """Run a carrier as long as the context is open; yield its address and what it owes."""
    log = Path(settings.simulator_log) if settings.simulator_log else None
    with Journal(log) as journal:
        async with Receipts(settings.simulator_receipt_url, settings.simulator_secret, journal) as receipts:
            exchange = Exchange(f"{time.time_ns() // 1_000_000:x}", lambda: receipts.is_full, rules)
            receipts.schedule(exchange.recover(journal))
            handlers = Handlers(exchange, receipts, journal, settings.simulator_secret)
            runner = web.AppRunner(
                handlers.app(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
            )
            await runner.setup()
            try:
                yield await _listen(runner, settings.simulator_host, settings.simulator_port), receipts
            finally:
                await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    """Take connections from now on; return where."""
    with told_by_settings("SIMULATOR_", host, port):
        await web.TCPSite(runner, host, port).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def read_rules(path: str) -> Rules:
    """Read a file of rules; without a path, those where everything is delivered.

    Raises:
        SettingsError: there is no such file, or it is not a set of rules.
    """
    if not path:
        return Rules()
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Rules)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError([f"TOLLWIRE_SIMULATOR_RULES: {path} cannot be read as rules: {error}"]) from None
