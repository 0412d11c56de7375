"""The way from a callback's URL to a checked address: one look-up, every address of it judged, no second one.

What is returned is connected to literally (``poster`` asks no resolver again), so a name that answers with
a public address now and with 127.0.0.1 a moment later gains nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from dlr.daemon_threads import DaemonThreads
from shared.domain.callback_networks import IPAddress
from shared.domain.callback_urls import CallbackUrl, UrlPolicy
from shared.domain.callbacks import RejectReason

# Threads only wait for a name server. A dead domain holds one of them however many callbacks want it.
RESOLVER_THREADS_MAX = 64
# A name with more addresses is not refused, but the rest are not tried: the deadline would end it anyway.
ADDRESSES_MAX = 4
# A name server that takes longer is down; the rest of the deadline is for the endpoint.
RESOLVE_SECONDS_MAX = 5.0

# The addresses of a name, as texts, in the order to try them; OSError when there are none.
Resolve = Callable[[str], Awaitable[list[str]]]


class PostError(Exception):
    """No HTTP answer came. ``detail`` may be shown to the client; ``resolved_ip`` is what was tried."""

    def __init__(self, reason: RejectReason, detail: str, resolved_ip: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.resolved_ip = resolved_ip


class Resolver:
    """Looks names up in threads of its own, one look-up a name at a time, whoever asks.

    The event loop's own ``getaddrinfo`` would not do: under uvloop two slow names at once block every other
    name of the process, because libuv runs no more than that of its four threads on them.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads(RESOLVER_THREADS_MAX, "callback-resolver")
        self._running: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, name: str) -> list[str]:
        """Return the addresses of a name, in the order to try them.

        Raises:
            OSError: it has none, or no name server answers.
        """
        lookup = self._running.get(name)
        if lookup is None:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, look_up, name)
            self._running[name] = lookup
            lookup.add_done_callback(lambda done: self._forget(name, done))
        # A caller whose deadline passes leaves; the look-up goes on for the others.
        return await asyncio.shield(lookup)

    def _forget(self, name: str, done: asyncio.Future[list[str]]) -> None:
        self._running.pop(name, None)
        if not done.cancelled():
            done.exception()  # taken note of, even when nobody waits any more

    def close(self) -> None:
        """Start no further look-ups, and wait for none: a dead name server would hold the stop."""
        self._threads.shutdown()


def look_up(name: str) -> list[str]:
    """Return the addresses of a name; blocks.

    Raises:
        OSError: it has none, or no name server answers.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [_with_zone(entry[4]) for entry in found]


def _with_zone(sockaddr: tuple[object, ...]) -> str:
    # An IPv6 entry is (address, port, flow, zone); a zone makes it an address of one link, never public.
    has_zone = len(sockaddr) == 4 and sockaddr[3] != 0 and "%" not in str(sockaddr[0])
    return f"{sockaddr[0]}%{sockaddr[3]}" if has_zone else str(sockaddr[0])


class Guard:
    """Says which addresses a URL may be connected to, by the operator's policy."""

    def __init__(self, policy: UrlPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def addresses(self, url: CallbackUrl) -> list[IPAddress]:
        """Return the addresses to try, at least one, all allowed.

        One address that is not allowed spoils the name: a name with a public and a private address is made
        for slipping past a check like this.

        Raises:
            PostError: NAME_NOT_RESOLVED or ADDRESS_BLOCKED. The detail names no address of ours.
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
        try:
            async with asyncio.timeout(RESOLVE_SECONDS_MAX):
                texts = await self._resolve(name)
            found = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
        except (OSError, ValueError, UnicodeError) as error:
            raise PostError(RejectReason.NAME_NOT_RESOLVED, _resolve_detail(url.host, error)) from None
        if not found:
            raise PostError(RejectReason.NAME_NOT_RESOLVED, f"{url.host} has no address")
        return found


def _resolve_detail(host: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no name server answered for {host} within {RESOLVE_SECONDS_MAX:g} s"
    return f"{host} has no address"
