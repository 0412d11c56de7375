"""All carriers of this worker, opened and closed as the configuration changes."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import structlog

from shared.runtime.keyring import Keyring
from shared.runtime.loops import Stop, cancel_all
from shared.storage.config import CarrierConfig, Routes, carrier_aad
from worker.carriers.registry import CarrierSettingsFault, make_carrier
from worker.desk import Desk

_log = structlog.get_logger(__name__)


class Desks:
    """The desks by carrier id. ``apply`` follows the configuration; an open async context."""

    def __init__(self, keyring: Keyring, lanes: Sequence[str]) -> None:
        self._keyring = keyring
        self._lanes = lanes
        self._desks: dict[int, tuple[Desk, AsyncExitStack]] = {}
        self._routes = Routes({})
        self._closing: dict[asyncio.Task[None], AsyncExitStack] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = dict(self._closing)
        await cancel_all(closing)
        for stack in [*closing.values(), *(stack for _, stack in self._desks.values())]:
            await stack.aclose()

    def get(self, carrier_id: int) -> Desk | None:
        """The desk of a carrier that is switched on."""
        found = self._desks.get(carrier_id)
        return found[0] if found else None

    @property
    def is_one(self) -> bool:
        """True while one carrier is switched on."""
        return len(self._desks) == 1

    def another(self, msisdn: str, than: int, *, is_test: bool) -> int | None:
        """The next carrier after ``than`` that carries this number, is switched on and not down.

        In the route's order, and from its end on at its head: each of them is asked before one is again.
        """
        if is_test:
            candidates = tuple(id_ for id_, (desk, _) in self._desks.items() if desk.config.is_simulator)
        else:
            candidates = self._routes.carriers_for(msisdn)
        after = candidates.index(than) + 1 if than in candidates else 0
        for carrier_id in candidates[after:] + candidates[:after]:
            desk = self.get(carrier_id)
            if carrier_id != than and desk is not None and not desk.is_down:
                return carrier_id
        return None

    async def close_at_the_stop(self, stop: Stop) -> None:
        """Wait until the worker is to stop; then what is not written to its carrier yet is not any more."""
        await stop.wait()
        for desk, _ in self._desks.values():
            desk.close()

    async def apply(self, carriers: dict[int, CarrierConfig], routes: Routes) -> None:
        """Open what is new, replace what has changed, close what is gone or switched off.

        A row that cannot be opened changes nothing: its last good desk goes on.
        """
        self._routes = routes
        for carrier_id in list(self._desks):
            wanted = carriers.get(carrier_id)
            if wanted is None or not wanted.is_enabled:
                self._close_unused(*self._desks.pop(carrier_id))
        for carrier_id, config in carriers.items():
            current = self._desks.get(carrier_id)
            if not config.is_enabled or (current is not None and current[0].config == config):
                continue
            if await self._open(config) and current is not None:
                self._close_unused(*current)

    async def _open(self, config: CarrierConfig) -> bool:
        """Open a desk in the place of the carrier's present one; False when the row cannot work."""
        stack = AsyncExitStack()
        try:
            secret = None
            if config.secret_sealed is not None:
                secret = self._keyring.unseal(config.secret_sealed, carrier_aad(config.id))
            carrier = await stack.enter_async_context(
                make_carrier(config.kind, config.name, config.settings, secret)
            )
        except (CarrierSettingsFault, ValueError) as error:
            # One wrong row must not stop the other carriers, nor its own as long as it worked before.
            goes_on = config.id in self._desks
            _log.error(
                "carrier cannot be opened", carrier=config.name, error=str(error), last_good_goes_on=goes_on
            )
            return False
        self._desks[config.id] = (Desk(config, carrier, self._lanes), stack)
        _log.info("carrier open", carrier=config.name, kind=config.kind)
        return True

    def _close_unused(self, desk: Desk, stack: AsyncExitStack) -> None:
        """Let what was written here have its answers, until its claims' deadline. No more is written."""
        desk.close()

        async def close() -> None:
            await desk.until_unused()
            await stack.aclose()
            _log.info("carrier closed", carrier=desk.config.name)

        task = asyncio.create_task(close())
        self._closing[task] = stack
        task.add_done_callback(self._closing.pop)
