"""Who may come in, cheapest check first: limits before the key, the key, its scope, the client's limit."""

import math
import time
from functools import lru_cache
from typing import Final

from aiohttp import web
from prometheus_client import Counter

from api.authenticate import Authenticator
from api.callers import KeyRecord, kind_of
from api.faults import refusal_for
from api.key_uses import KeyUses
from api.limits import Limits
from api.problems import Refusal
from api.routing import Call, Operation, refuse_unacceptable
from api.schemas import BATCH_MESSAGES_MAX
from api.settings import ApiSettings, address_quota, total_quota
from shared.domain.idempotency import InvalidIdempotencyKey, parse_idempotency_key
from shared.domain.problems import ProblemCode
from shared.runtime import addresses
from shared.runtime.gcra import MICROSECONDS, LocalLimiter, Quota, Taken, decide

# What a client may bring in batches for each request of its contract: with the default of 10,000 a minute
# that is 5,000 messages a second, about what one process accepts from everybody.
BATCHED_PER_REQUEST: Final = 30

_rejected = Counter("tollwire_http_rejected_total", "Requests turned away at the door, by reason", ["reason"])


class Admission:
    """Lets requests in: fills the call's address, key and rate limit headers, or refuses."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: Limits,
        uses: KeyUses,
        settings: ApiSettings,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._uses = uses
        self._reader = addresses.AddressReader(settings.trusted_proxies)
        self._trusts_any = self._reader.trusts_any
        self._address_quota = address_quota(settings)
        self._total_quota = total_quota(settings)
        self._total_tat_us = 0.0
        self._addresses = LocalLimiter()
        self._refused = LocalLimiter()

    def address(self, request: web.BaseRequest) -> str:
        """The caller's address, behind the proxies that are trusted."""
        if not self._trusts_any:
            return request.remote or addresses.UNKNOWN
        return self._reader.caller(request.remote, request.headers.getall("X-Forwarded-For", ()))

    def enter(self, address: str) -> None:
        """Count a request before anything is known about it.

        Raises:
            Refusal: too_many_requests.
        """
        now_us = time.monotonic() * MICROSECONDS
        taken = self._addresses.take(addresses.limit_subject(address), self._address_quota, now_us)
        if not taken.is_allowed:
            _rejected.labels("address_limit").inc()
            raise too_many(taken, "requests from this address")
        quota = self._total_quota
        taken, self._total_tat_us = decide(self._total_tat_us, int(now_us), quota.interval_us, quota.burst)
        if not taken.is_allowed:
            _rejected.labels("total_limit").inc()
            raise too_many(taken, "requests of all clients")

    async def admit(self, call: Call, operation: Operation) -> None:
        """Let a caller with a key in, or refuse.

        Raises:
            Refusal: unauthorized, address_not_allowed, forbidden, client_suspended, not_acceptable,
                invalid_idempotency_key, too_many_requests, busy.
        """
        headers = call.request.headers
        key = await self._authenticator.authenticate(headers.get("X-API-Key"), call.address)
        self._uses.note(key.key_id)
        _let_in(call, key, operation)
        if (accept := headers.get("Accept")) is not None:
            refuse_unacceptable(accept)
        if operation.is_idempotent and (header := headers.get("Idempotency-Key")) is not None:
            own = _read_key(header)
            call.idempotency_key = _test_key(own) if key.is_test else own
        subject, quota, policy = key.contract
        taken = await self._limits.take(subject, quota)
        call.headers["RateLimit-Policy"] = policy
        call.headers["RateLimit"] = (
            f'"burst";r={taken.remaining};t={math.ceil(taken.reset_us / MICROSECONDS)}'
        )
        if not taken.is_allowed:
            _rejected.labels("client_limit").inc()
            raise too_many(taken, "requests")
        call.has_slot = True

    async def admit_again(self, call: Call, operation: Operation) -> None:
        """Refuse who would not be let in any more, after a wait; a key that is in memory costs no query.

        Raises:
            Refusal: unauthorized, address_not_allowed, forbidden, client_suspended; unavailable or busy, when
                the key is not in memory any more and cannot be looked up.
        """
        try:
            key = await self._authenticator.authenticate(call.request.headers.get("X-API-Key"), call.address)
        except Refusal:
            raise
        except Exception as error:
            raise refusal_for(error, may_be_done=False) from error
        _let_in(call, key, operation)

    async def give_back(self, call: Call) -> None:
        """Return the slot of a request that turned out not to be new work (RULES 13)."""
        if call.has_slot:
            call.has_slot = False
            contract = call.caller.contract
            await self._limits.give_back(contract.subject, contract.quota)

    async def give_back_refused(self, call: Call) -> None:
        """Return the slot of a request that was refused, as long as those are no more than the limit itself.

        A refusal is work all the same, a 402 the account's lock and a row for its key: beyond that it counts
        (ADR 0021). Counted in this process alone.
        """
        if call.has_slot:
            contract = call.caller.contract
            now_us = time.monotonic() * MICROSECONDS
            taken = self._refused.take(contract.subject, contract.quota, now_us)
            if taken.is_allowed:
                await self.give_back(call)


def _let_in(call: Call, key: KeyRecord, operation: Operation) -> None:
    call.key = key
    if operation.scope not in key.scopes:
        _rejected.labels("scope").inc()
        raise Refusal(ProblemCode.FORBIDDEN, scope=operation.scope)
    if operation.is_live_only and key.is_test:
        _rejected.labels("test_key").inc()
        raise Refusal(ProblemCode.FORBIDDEN, detail="This needs a live key: a test key only looks at it.")
    # call.client refuses a key that has none.
    if operation.is_spending and (key.client or call.client).is_suspended:
        _rejected.labels("suspended").inc()
        raise Refusal(ProblemCode.CLIENT_SUSPENDED)


async def take_batched(limits: Limits, call: Call, count: int) -> None:
    """Count the messages of a batch, whatever is answered for them: a repeat costs as much as the first time.

    Raises:
        Refusal: too_many_requests, for the batch as a whole.
    """
    quota = _batched_quota(call.client.quota)
    taken = await limits.take_many(f"batched:{kind_of(call.caller, call.client)}", quota, count)
    if not taken.is_allowed:
        _rejected.labels("batched_limit").inc()
        raise too_many(taken, "messages in batches")


@lru_cache(maxsize=1_000)
def _batched_quota(quota: Quota) -> Quota:
    """One batch of the greatest size fits into every burst."""
    burst = max(quota.burst * BATCHED_PER_REQUEST, BATCH_MESSAGES_MAX)
    return Quota(quota.requests_per_minute * BATCHED_PER_REQUEST, burst)


def _read_key(header: str) -> str:
    try:
        return parse_idempotency_key(header)
    except InvalidIdempotencyKey as error:
        raise Refusal(ProblemCode.INVALID_IDEMPOTENCY_KEY, reason=str(error)) from None


def _test_key(idempotency_key: str) -> str:
    """An idempotency key of a test key's, as it is remembered: it never stands in the way of a live one's.

    No client's key has a space in it, so nobody else can hold this one.
    """
    return f"test {idempotency_key}"


def too_many(taken: Taken, what: str) -> Refusal:
    """The refusal of ``what`` a limit does not allow now.

    It says when to come back and nothing of ``RateLimit``: that is the limit of a client's requests, and
    told by ``admit``.
    """
    seconds = max(1, math.ceil(taken.retry_us / MICROSECONDS))
    detail = f"The limit of {what} is used up; the next one is possible in {seconds} s."
    return Refusal(ProblemCode.TOO_MANY_REQUESTS, detail=detail, retry_after_seconds=seconds)
