"""What dlr knows of endpoints beside their URL: the secrets that sign, and whether answers are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import structlog

from shared.domain.signatures import SecretFormatError, parse_secret
from shared.runtime.clock import Clock
from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.postgres import Connection
from shared.storage.callback_endpoints import callback_secret_aad

# Newest first, so that the first signature is the one a receiver tries first.
LOAD_SECRETS: Final = """
    select e.id, e.url, e.keep_answers, c.allowed_callback_hosts, s.sealed, s.expires_at
    from tollwire.callback_endpoints e
    join tollwire.clients c on c.id = e.client_id
    left join tollwire.callback_secrets s on s.endpoint_id = e.id
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
    opened: list[tuple[bytes, datetime | None]] | None = None
    # The keys that sign whatever the time is; None: one of them expires.
    lasting: tuple[bytes, ...] | None = None


class EndpointBook:
    """All endpoints at one version of the configuration; secrets are opened when they are first needed."""

    def __init__(self, pages: dict[int, _Page], keyring: Keyring) -> None:
        self._pages = pages
        self._keyring = keyring

    def keeps_answers(self, endpoint_id: int) -> bool:
        """Whether the client has opted in to seeing what its endpoint answers."""
        page = self._pages.get(endpoint_id)
        return page is not None and page.keeps_answers

    def other_host(self, endpoint_id: int, url: str) -> str:
        """The host of a URL that a message named itself; empty where it is the endpoint's own URL."""
        page = self._pages.get(endpoint_id)
        return "" if page is None or page.url == url else urlsplit(url).hostname or ""

    def may_call(self, endpoint_id: int, host: str) -> bool:
        """Whether a message may still name this host: it was looked at when the message came, days ago."""
        page = self._pages.get(endpoint_id)
        return page is not None and (host in page.hosts or host == urlsplit(page.url).hostname)

    def secrets(self, endpoint_id: int, clock: Clock) -> tuple[bytes, ...]:
        """The keys that sign now, newest first; empty when the endpoint is not known yet or has none."""
        page = self._pages.get(endpoint_id)
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


async def load_endpoint_book(connection: Connection, keyring: Keyring) -> EndpointBook:
    """Load every endpoint with its sealed secrets."""
    pages: dict[int, _Page] = {}
    for endpoint_id, url, keeps_answers, hosts, sealed, expires_at in await connection.fetch(LOAD_SECRETS):
        page = pages.get(endpoint_id)
        if page is None:
            page = pages[endpoint_id] = _Page(url, keeps_answers, frozenset(hosts), [])
        if sealed is not None:
            page.secrets.append(_Secret(sealed, expires_at))
    return EndpointBook(pages, keyring)
