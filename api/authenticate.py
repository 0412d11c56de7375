"""API keys: bcrypt once a key, then its seal, and a keyed hash in memory (RULES 31, 32).

Wrong keys cannot burn the CPU: unknown ids never reach bcrypt, wrong secrets are remembered for a few
seconds and limited by where they come from, and what bcrypt is asked is bounded (`api.verify`). Who has
the right one is not refused for the guesses of others: a seal that fits is looked at before any limit of
its key id.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from prometheus_client import Gauge, Histogram

from api.callers import KeyRecord
from api.key_seals import KeySeals
from api.problems import Refusal
from api.verify import CHECKS, Verifier
from shared.domain.api_keys import ApiKey, InvalidApiKey, parse_api_key
from shared.domain.problems import ProblemCode
from shared.runtime import addresses
from shared.runtime.clock import Clock
from shared.runtime.metrics import SECONDS_BUCKETS, SwiftCounter

LoadKeys = Callable[[Sequence[str]], Awaitable[Mapping[str, KeyRecord]]]
"""Loads the live (not revoked) keys among these ids."""

# RULES 31. One verified key is about 1 kB with its record.
VERIFIED_MAX: Final = 100_000
REJECTED_MAX: Final = 10_000
REJECTED_SECONDS: Final = 5.0
# How many cached keys are looked at again in one query after the configuration changed.
REFRESH_CHUNK: Final = 1_000
CHALLENGE: Final = {"WWW-Authenticate": 'ApiKey realm="tollwire", header="X-API-Key"'}

_looks = SwiftCounter(
    "tollwire_api_key_cache_total",
    "Looks for a request's key, two where its body comes later, by whether it was in memory: hit, miss",
    ["result"],
)
_hit, _miss = _looks.labels("hit").inc, _looks.labels("miss").inc
_cached = Gauge("tollwire_api_keys_cached", "Verified API keys in memory")
_verify_seconds = Histogram(
    "tollwire_api_key_verify_seconds",
    "From an unknown key to its record: its row and bcrypt",
    buckets=SECONDS_BUCKETS,
)
_verified, _wrong, _refused = (CHECKS.labels(result) for result in ("verified", "wrong", "refused"))


class Authenticator:
    """Turns the text of X-API-Key into the key's record, or refuses; keys end by ``clock`` (RULES 30)."""

    def __init__(
        self,
        load: LoadKeys,
        *,
        clock: Clock | None = None,
        seals: KeySeals | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self._load = load
        self._clock = clock or Clock()
        self._seals = seals
        # A key of this process only: the hashes in memory are worth nothing elsewhere.
        self._pepper = secrets.token_bytes(32)
        self._records: OrderedDict[bytes, KeyRecord] = OrderedDict()
        self._outdated: set[bytes] = set()
        self._rejected: OrderedDict[bytes, float] = OrderedDict()
        self._flights: dict[bytes, asyncio.Task[KeyRecord | None]] = {}
        self._verifier = verifier or Verifier()
        self._generation = 0

    def close(self) -> None:
        """Give the threads back."""
        self._verifier.close()

    async def authenticate(self, text: str | None, address: str) -> KeyRecord:
        """Return the record of a valid key that may be used from this address.

        Raises:
            Refusal: unauthorized, address_not_allowed, too_many_requests (failures), busy.
        """
        if text is None:
            raise _unauthorized()
        digest = hashlib.blake2b(
            text.encode("utf-8", "surrogateescape"), key=self._pepper, digest_size=16
        ).digest()
        record = self._records.get(digest)
        if record is not None:
            _hit()
        else:
            _miss()
            record = await self._first_time(digest, text, address)
        ends_at = record.expires_at_seconds
        if ends_at is not None and ends_at * 1000 <= self._clock.now_ms():
            raise _unauthorized()
        if record.allowed_networks and not _is_allowed(record, address):
            raise Refusal(ProblemCode.ADDRESS_NOT_ALLOWED, address=address)
        return record

    def outdate(self, clients: Collection[int] | None = None) -> None:
        """Have the next ``refresh`` look at every cached key again, or at those of some clients too."""
        self._generation += 1
        self._outdated.update(digest for digest, record in self._records.items() if _is_of(record, clients))

    async def refresh(self) -> None:
        """Look again at the cached keys that are outdated, because the configuration has changed.

        A revoked key is gone, a changed client or scope is seen, when this returns. If it raises, it must
        be called again, and goes on with those that were not looked at yet.
        """
        while self._outdated:
            chunk = list(islice(self._outdated, REFRESH_CHUNK))
            known = [digest for digest in chunk if digest in self._records]
            live = await self._load([self._records[digest].key_id for digest in known])
            for digest in known:
                self._renew(digest, live)
            self._outdated.difference_update(chunk)
        _cached.set(len(self._records))

    def _renew(self, digest: bytes, live: Mapping[str, KeyRecord]) -> None:
        old = self._records.get(digest)
        if old is None:
            return
        new = live.get(old.key_id)
        if new is None or new.secret_hash != old.secret_hash:
            del self._records[digest]
        else:
            self._records[digest] = new

    async def _first_time(self, digest: bytes, text: str, address: str) -> KeyRecord:
        until = self._rejected.get(digest)
        if until is not None and until > time.monotonic():
            _refused.inc()
            raise _unauthorized()
        source = addresses.limit_subject(address)
        self._verifier.refuse_limited(source)
        try:
            key = parse_api_key(text)
        except InvalidApiKey:
            self._reject(digest, source)
            raise _unauthorized() from None
        record = await self._verified_once(digest, key, source)
        if record is None:
            raise _unauthorized()
        return record

    async def _verified_once(self, digest: bytes, key: ApiKey, source: str) -> KeyRecord | None:
        """One verification for all requests that bring this key at the same time."""
        flight = self._flights.get(digest)
        if flight is None:
            flight = asyncio.create_task(self._verify(digest, key, source))
            self._flights[digest] = flight
            flight.add_done_callback(lambda done: self._land(digest, done))
        return await asyncio.shield(flight)

    def _land(self, digest: bytes, flight: asyncio.Task[KeyRecord | None]) -> None:
        del self._flights[digest]
        # Asked even when its waiters are all gone, or asyncio would complain of an error that nobody saw.
        if not flight.cancelled():
            flight.exception()

    async def _verify(self, digest: bytes, key: ApiKey, source: str) -> KeyRecord | None:
        started_at = time.monotonic()
        while True:
            generation = self._generation
            record = (await self._load([key.key_id])).get(key.key_id)
            is_known = record is not None and record.is_test == key.is_test
            if record is None or not is_known or not await self._is_right(key, record, source):
                self._reject(digest, source)
                return None
            # A revocation that came meanwhile was not looked for in this record: read it again.
            if generation == self._generation:
                break
        _verified.inc()
        _verify_seconds.observe(time.monotonic() - started_at)
        self._records[digest] = record
        if len(self._records) > VERIFIED_MAX:
            self._records.popitem(last=False)
        _cached.set(len(self._records))
        return record

    async def _is_right(self, key: ApiKey, record: KeyRecord, source: str) -> bool:
        if self._seals is not None and self._seals.fits(record.seal, key, record.secret_hash):
            return True
        is_right = await self._verifier.is_right(key, record.secret_hash, source)
        if is_right and self._seals is not None:
            self._seals.keep(key, record.secret_hash)
        return is_right

    def _reject(self, digest: bytes, source: str) -> None:
        """Remember a wrong key for a few seconds and count the failure of its source."""
        _wrong.inc()
        self._verifier.count_failure(source)
        self._rejected[digest] = time.monotonic() + REJECTED_SECONDS
        if len(self._rejected) > REJECTED_MAX:
            self._rejected.popitem(last=False)


def _is_of(record: KeyRecord, clients: Collection[int] | None) -> bool:
    return clients is None or (record.client is not None and record.client.id in clients)


def _is_allowed(record: KeyRecord, address: str) -> bool:
    read = addresses.read_address(address)
    return read is not None and addresses.is_inside(read, record.allowed_networks)


def _unauthorized() -> Refusal:
    return Refusal(ProblemCode.UNAUTHORIZED, headers=CHALLENGE)
