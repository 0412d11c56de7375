"""Each endpoint in its own turn: a dead or slow one never delays another (DESIGN 6, RULES 36).

An endpoint has a few places of its own, fewer when it is slow, one when it fails; over all there is one
limit, handed out in turn. After some failures in a row its breaker opens: what waits goes back to
PostgreSQL at once, and one row there keeps everybody's sweeps away until the probe.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from prometheus_client import Counter, Gauge

from dlr.poster import Delivery
from dlr.store import Health
from shared.domain.callbacks import Outcome, is_success
from shared.runtime.clock import Clock

# Callbacks on their way over all endpoints: within the poster's connections.
TOTAL_MAX: Final = 1_000
# And to one endpoint: enough for 1,000 a second at 16 ms each.
EACH_MAX: Final = 16
# An endpoint that takes longer than this for an answer gets fewer places, so that some slow ones
# cannot hold all of the total.
SLOW_MS: Final = 1_000
EACH_SLOW_MAX: Final = 4
# Waiting for a place in this process; more of them wait in PostgreSQL.
WAITING_EACH_MAX: Final = 1_000
# Failures in a row that open the breaker, and for how long: doubled at each probe that fails.
FAILURES_TO_OPEN: Final = 5
OPEN_FIRST_SECONDS: Final = 5.0
OPEN_MAX_SECONDS: Final = 300.0
# An endpoint without one success for so long is switched off; its callbacks are kept for a replay.
DISABLE_AFTER: Final = timedelta(days=5)
# Endpoints remembered while nothing goes on with them.
REMEMBERED_MAX: Final = 50_000

OPENED: Final = Counter("tollwire_callback_breakers_opened_total", "Breakers of endpoints that opened")
IN_FLIGHT: Final = Gauge("tollwire_callbacks_in_flight", "Callbacks on their way to endpoints")

_log = structlog.get_logger(__name__)


class Poster(Protocol):
    """What sends one callback."""

    async def post(self, delivery: Delivery) -> Outcome:
        """Send it; the endpoint's faults come back as values."""
        ...


@dataclass(slots=True)
class _Endpoint:
    waiting: deque[asyncio.Future[bool]] = field(default_factory=deque)
    in_flight: int = 0
    failures: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None
    is_slow: bool = False
    is_disabled: bool = False

    @property
    def places(self) -> int:
        if self.failures:
            return 1
        return EACH_SLOW_MAX if self.is_slow else EACH_MAX


class Endpoints:
    """Hands out turns and keeps breakers. ``note_health`` persists what other processes must know."""

    def __init__(self, clock: Clock, note_health: Callable[[Health], None]) -> None:
        self._clock = clock
        self._note_health = note_health
        self._endpoints: OrderedDict[int, _Endpoint] = OrderedDict()
        self._ring: deque[int] = deque()
        self._total = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for endpoint in self._endpoints.values():
            _send_away(endpoint)

    async def post(self, poster: Poster, delivery: Delivery) -> Outcome | None:
        """Post in the endpoint's turn. None: not now; the callback's lease ends, and a sweep takes it up."""
        endpoint = self._endpoint(delivery.endpoint_id)
        if self._is_shut(endpoint) or not await self._turn(delivery.endpoint_id, endpoint):
            return None
        try:
            outcome = await poster.post(delivery)
        finally:
            self._total -= 1
            endpoint.in_flight -= 1
            IN_FLIGHT.set(self._total)
            self._pump()
        self._learn(delivery.endpoint_id, endpoint, outcome)
        return outcome

    def disable(self, endpoint_id: int, reason: str) -> None:
        """Switch an endpoint off until its client sets it anew."""
        endpoint = self._endpoint(endpoint_id)
        endpoint.is_disabled = True
        _send_away(endpoint)
        _log.warning("callback endpoint switched off", endpoint_id=endpoint_id, reason=reason)
        self._note(endpoint_id, endpoint, reason)

    def enable_all(self) -> None:
        """Forget who was switched off: the configuration has changed, and PostgreSQL knows."""
        for endpoint in self._endpoints.values():
            endpoint.is_disabled = False

    def _endpoint(self, endpoint_id: int) -> _Endpoint:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = _Endpoint()
            self._forget_idle()
        self._endpoints.move_to_end(endpoint_id)
        return endpoint

    def _forget_idle(self) -> None:
        while len(self._endpoints) > REMEMBERED_MAX:
            endpoint_id, endpoint = next(iter(self._endpoints.items()))
            if endpoint.in_flight or endpoint.waiting:
                return
            del self._endpoints[endpoint_id]

    def _is_shut(self, endpoint: _Endpoint) -> bool:
        if endpoint.is_disabled or len(endpoint.waiting) >= WAITING_EACH_MAX:
            return True
        return endpoint.open_until is not None and self._clock.now() < endpoint.open_until

    async def _turn(self, endpoint_id: int, endpoint: _Endpoint) -> bool:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        endpoint.waiting.append(turn)
        if len(endpoint.waiting) == 1:
            self._ring.append(endpoint_id)
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._total -= 1
                endpoint.in_flight -= 1
                self._pump()
            raise

    def _pump(self) -> None:
        """Give free places to endpoints in turn, one each time round."""
        idle_rounds = 0
        while self._ring and self._total < TOTAL_MAX and idle_rounds < len(self._ring):
            endpoint_id = self._ring.popleft()
            endpoint = self._endpoints[endpoint_id]
            while endpoint.waiting and endpoint.waiting[0].done():
                endpoint.waiting.popleft()
            if not endpoint.waiting:
                continue
            if endpoint.in_flight < endpoint.places:
                endpoint.waiting.popleft().set_result(True)
                endpoint.in_flight += 1
                self._total += 1
                idle_rounds = 0
            else:
                idle_rounds += 1
            if endpoint.waiting:
                self._ring.append(endpoint_id)
        IN_FLIGHT.set(self._total)

    def _learn(self, endpoint_id: int, endpoint: _Endpoint, outcome: Outcome) -> None:
        endpoint.is_slow = outcome.duration_ms > SLOW_MS
        if is_success(outcome):
            was_open = endpoint.open_until is not None
            endpoint.failures, endpoint.failing_since, endpoint.open_until = 0, None, None
            if was_open:
                self._note(endpoint_id, endpoint, None)
            return
        now = self._clock.now()
        endpoint.failures += 1
        endpoint.failing_since = endpoint.failing_since or now
        if now - endpoint.failing_since > DISABLE_AFTER:
            self.disable(endpoint_id, "no callback was taken for five days")
        elif endpoint.failures >= FAILURES_TO_OPEN:
            doublings = min(endpoint.failures - FAILURES_TO_OPEN, 10)
            seconds = min(OPEN_FIRST_SECONDS * 2.0**doublings, OPEN_MAX_SECONDS)
            endpoint.open_until = now + timedelta(seconds=seconds)
            _send_away(endpoint)
            OPENED.inc()
            _log.info("breaker open", endpoint_id=endpoint_id, seconds=seconds, failures=endpoint.failures)
            self._note(endpoint_id, endpoint, None)

    def _note(self, endpoint_id: int, endpoint: _Endpoint, disabled_reason: str | None) -> None:
        self._note_health(
            Health(
                endpoint_id, endpoint.failures, endpoint.failing_since, endpoint.open_until, disabled_reason
            )
        )


def _send_away(endpoint: _Endpoint) -> None:
    while endpoint.waiting:
        turn = endpoint.waiting.popleft()
        if not turn.done():
            turn.set_result(False)
