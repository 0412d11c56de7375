"""What dlr knows of endpoints beside their URL: the secrets that sign, and whether answers are kept."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from shared.domain.signatures import SecretFormatError, parse_secret
from shared.runtime.clock import Clock
from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.postgres import Connection
from shared.storage.callback_endpoints import callback_secret_aad

# Endpoints read at once, some 10 ms of work: between two pages the event loop turns.
PAGE_MAX: Final = 2_000
# Newest first, so that the first signature is the one a receiver tries first. Row by row, so that a page
# costs the same however many there are.
LOAD_SECRETS: Final = """
    select e.id, e.url, e.keep_answers, c.allowed_callback_hosts, s.sealed, s.expires_at
    from (select * from tollwire.callback_endpoints where id > $1 order by id limit $2) e
    cross join lateral (select * from tollwire.clients b where b.id = e.client_id offset 0) c
    left join lateral (
        select * from tollwire.callback_secrets b where b.endpoint_id = e.id offset 0) s on true
    order by e.id, s.id desc
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Secret:
    sealed: bytes
    expires_at: datetime | None


@dataclass(slots=True)
class _Page:
    url: str
    keeps_answers: bool
    hosts: frozenset[str]
    secrets: list[_Secret]
    opened: list[tuple[bytes, datetime | None]] | None = field(default=None, compare=False)
    # The keys that sign whatever the time is; None: one of them expires.
    lasting: tuple[bytes, ...] | None = field(default=None, compare=False)


class EndpointBook:
    """All endpoints at one version of the configuration; secrets are opened when they are first needed."""

    def __init__(self, pages: dict[int, _Page], keyring: Keyring) -> None:
        self.pages = pages
        self._keyring = keyring

    def keeps_answers(self, endpoint_id: int) -> bool:
        """Whether the client has opted in to seeing what its endpoint answers."""
        page = self.pages.get(endpoint_id)
        return page is not None and page.keeps_answers

    def has_left(self, endpoint_id: int, url: str) -> bool:
        """Whether the endpoint has another URL than this one."""
        page = self.pages.get(endpoint_id)
        return page is not None and page.url != url

    def may_call(self, endpoint_id: int, host: str) -> bool:
        """Whether a message may still name this host: it was looked at when the message came, days ago."""
        page = self.pages.get(endpoint_id)
        return page is not None and (host in page.hosts or host == urlsplit(page.url).hostname)

    def secrets(self, endpoint_id: int, clock: Clock) -> tuple[bytes, ...]:
        """The keys that sign now, newest first; empty when the endpoint is not known yet or has none."""
        page = self.pages.get(endpoint_id)
        if page is None:
            return ()
        if page.lasting is not None:
            return page.lasting
        if page.opened is None:
            page.opened = self._open(endpoint_id, page.secrets)
            if all(expires_at is None for _, expires_at in page.opened):
                page.lasting = tuple(key for key, _ in page.opened)
        now = clock.now()
        return tuple(key for key, expires_at in page.opened if expires_at is None or expires_at > now)

    def _open(self, endpoint_id: int, secrets: Sequence[_Secret]) -> list[tuple[bytes, datetime | None]]:
        opened = []
        for secret in secrets:
            try:
                text = self._keyring.unseal(secret.sealed, callback_secret_aad(endpoint_id)).decode()
                opened.append((parse_secret(text), secret.expires_at))
            except (SealBroken, SecretFormatError, UnicodeDecodeError) as error:
                _log.error("callback secret cannot be opened", endpoint_id=endpoint_id, error=str(error))
        return opened


class LatestBook:
    """The book that is in force here, and the time of the clock at which it was last found to be true.

    What the database tells of a callback may be newer than the book: a client has just moved its endpoint,
    an operator has just registered a host. Only a book that was read after the callback refuses it.
    """

    def __init__(self) -> None:
        self.book: EndpointBook | None = None
        self._true_at = -math.inf
        self._is_closed = False
        self._changed = asyncio.Event()

    def put(self, book: EndpointBook, true_at: float) -> None:
        """Have it in force; what stands in it was so at ``true_at``, of the clock, or later."""
        self.book, self._true_at = book, true_at
        self._wake()

    def close(self) -> None:
        """No newer one comes; nobody waits for it any more."""
        self._is_closed = True
        self._wake()

    def was_true(self, since: float) -> bool:
        """Whether what is in force was so at ``since``, of the clock, or later."""
        return self._true_at >= since

    async def wait_for_news(self, since: float, timeout_seconds: float) -> bool:
        """Wait until what is in force was true at ``since``, of the clock, or later; False: it never was."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._true_at < since and not self._is_closed:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.was_true(since)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def load_endpoint_book(
    connection: Connection, keyring: Keyring, before: EndpointBook | None = None
) -> EndpointBook:
    """Load every endpoint with its sealed secrets; an open transaction makes them those of one moment.

    What ``before`` has as it still is stays, with what was opened of it.
    """
    pages: dict[int, _Page] = {}
    known = {} if before is None else before.pages
    after = 0
    while True:
        read = _pages_of(await connection.fetch(LOAD_SECRETS, after, PAGE_MAX))
        for endpoint_id, page in read.items():
            old = known.get(endpoint_id)
            pages[endpoint_id] = page if old is None or old != page else old
        if len(read) < PAGE_MAX:
            return EndpointBook(pages, keyring)
        after = max(read)


def _pages_of(rows: Iterable[Any]) -> dict[int, _Page]:
    pages: dict[int, _Page] = {}
    for endpoint_id, url, keeps_answers, hosts, sealed, expires_at in rows:
        page = pages.get(endpoint_id)
        if page is None:
            page = pages[endpoint_id] = _Page(url, keeps_answers, frozenset(hosts), [])
        if sealed is not None:
            page.secrets.append(_Secret(sealed, expires_at))
    return pages
