"""The way from a callback's URL to a checked address: one look-up, every address of it judged, no second one.

What is returned is connected to literally (``poster`` asks no resolver again), so a name that answers with
a public address now and with 127.0.0.1 a moment later gains nothing.
"""

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from dlr.resolver import ResolverBusyError
from shared.domain.callback_networks import IPAddress
from shared.domain.callback_urls import CallbackUrl, UrlPolicy
from shared.domain.callbacks import RejectReason

# A name with more addresses is not refused, but the rest are not tried: the deadline would end it anyway.
ADDRESSES_MAX = 4
# A name server that takes longer is down; the rest of the deadline is for the endpoint.
RESOLVE_SECONDS_MAX = 5.0
# Where name servers do not answer, what they said so short a time ago is taken: a usual life of a record. It
# is judged again like any answer.
RECENT_SECONDS = 60.0
# Where there is such an answer, a new one is waited for no longer: the endpoint shall not count as slow.
RECENT_PATIENCE_SECONDS = 0.5
RECENT_NAMES_MAX = 20_000

# The addresses of a name, as texts, in the order to try them; OSError when there are none.
Resolve = Callable[[str], Awaitable[list[str]]]


class PostError(Exception):
    """No HTTP answer came. ``detail`` may be shown to the client; ``resolved_ip`` is what was tried."""

    def __init__(self, reason: RejectReason, detail: str, resolved_ip: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.resolved_ip = resolved_ip


class Guard:
    """Says which addresses a URL may be connected to, by the operator's policy."""

    def __init__(
        self, policy: UrlPolicy, resolve: Resolve, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._now = now
        # Addresses of a name, and until when they may be taken.
        self._recent: OrderedDict[str, tuple[list[IPAddress], float]] = OrderedDict()

    async def addresses(self, url: CallbackUrl) -> list[IPAddress]:
        """Return the addresses to try, at least one, all allowed.

        One address that is not allowed spoils the name: a name with a public and a private address is made
        for slipping past a check like this.

        Raises:
            PostError: NAME_NOT_RESOLVED, ADDRESS_BLOCKED, or NO_CONNECTION_FREE where no look-up could
                begin. The detail names no address of ours.
        """
        if url.address is not None:
            found = [url.address]
        else:
            found = await self._look_up(url)
        for address in found:
            refusal = self._policy.refusal(address, url.port)
            if refusal:
                raise PostError(RejectReason.ADDRESS_BLOCKED, f"{url.host} may not be called: {refusal}")
        return found[:ADDRESSES_MAX]

    async def _look_up(self, url: CallbackUrl) -> list[IPAddress]:
        # A final dot makes the name absolute: the search list of a Kubernetes pod would else be asked first,
        # five questions a look-up and a way to names of the cluster. A laptop's names may be local ones.
        name = url.host if self._policy.allow_private else f"{url.host}."
        recent, until = self._recent.get(name, ([], 0.0))
        if self._now() > until:
            recent = []
        try:
            async with asyncio.timeout(RECENT_PATIENCE_SECONDS if recent else RESOLVE_SECONDS_MAX):
                texts = await self._resolve(name)
            found = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
        except (OSError, ValueError, UnicodeError, ResolverBusyError) as error:
            if recent and _is_silence(error):
                return recent
            raise _refusal(url.host, error) from None
        if not found:
            raise PostError(RejectReason.NAME_NOT_RESOLVED, f"{url.host} has no address")
        self._remember(name, found)
        return found

    def _remember(self, name: str, found: list[IPAddress]) -> None:
        self._recent[name] = (found, self._now() + RECENT_SECONDS)
        self._recent.move_to_end(name)
        if len(self._recent) > RECENT_NAMES_MAX:
            self._recent.popitem(last=False)


def _is_silence(error: Exception) -> bool:
    """True where no name server said anything, as against "there is no such name"."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, TimeoutError | ResolverBusyError)


def _refusal(host: str, error: Exception) -> PostError:
    if isinstance(error, ResolverBusyError):
        return PostError(RejectReason.NO_CONNECTION_FREE, f"no look-up of {host} could begin")
    detail = f"{host} has no address"
    if isinstance(error, TimeoutError):
        detail = f"no name server answered for {host} within {RESOLVE_SECONDS_MAX:g} s"
    return PostError(RejectReason.NAME_NOT_RESOLVED, detail)
