"""Opens a connection to an endpoint: to a checked address, literally, then TLS for the name."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable

from dlr.connection import Connection
from dlr.guard import Guard, PostError
from shared.domain.callback_networks import IPAddress
from shared.domain.callback_urls import CallbackUrl
from shared.domain.callbacks import RejectReason

# One address that swallows packets leaves time for the next.
CONNECT_SECONDS_MAX = 4.0


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Return the TLS settings for endpoints: TLS 1.2 at least, the system's authorities and those of a file.

    Raises:
        OSError: the file can't be read.
        ssl.SSLError: it holds no certificates.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


class Dialer:
    """Opens connections, and names what went wrong when it can't."""

    def __init__(self, guard: Guard, tls: ssl.SSLContext) -> None:
        self._guard = guard
        self._tls = tls

    async def open(
        self, url: CallbackUrl, deadline: float, new_connection: Callable[[str], Connection]
    ) -> Connection:
        """Return a connection to the URL's host, with its certificate checked if it is https.

        ``deadline`` is a time of the event loop, over look-up, connect and TLS. ``new_connection`` makes the
        connection's own part, of the address that it goes to.

        Raises:
            PostError: NAME_NOT_RESOLVED, ADDRESS_BLOCKED, CONNECT_FAILED, TLS_FAILED or TIMED_OUT.
        """
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._guard.addresses(url)
                address, sock = await _connect_to_one(addresses, url.port)
                return await self._start(url, sock, new_connection(str(address)))
        except TimeoutError:
            raise PostError(RejectReason.TIMED_OUT, "not connected in time") from None

    async def _start(self, url: CallbackUrl, sock: socket.socket, connection: Connection) -> Connection:
        is_tls = url.scheme == "https"
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls if is_tls else None,
                server_hostname=url.host if is_tls else None,
            )
        except TimeoutError:
            raise
        except ssl.SSLCertVerificationError as error:
            detail = f"the certificate was not accepted: {error.verify_message}"
            raise PostError(RejectReason.TLS_FAILED, detail, connection.resolved_ip) from None
        except (OSError, ValueError):  # ValueError: a name that TLS can't carry
            detail = "the TLS handshake failed"
            raise PostError(RejectReason.TLS_FAILED, detail, connection.resolved_ip) from None
        return connection


async def _connect_to_one(addresses: list[IPAddress], port: int) -> tuple[IPAddress, socket.socket]:
    refusal = PostError(RejectReason.CONNECT_FAILED, "the host has no address")
    for address in addresses:
        try:
            return address, await _connect(address, port)
        except PostError as error:
            refusal = error
    raise refusal


async def _connect(address: IPAddress, port: int) -> socket.socket:
    family = socket.AF_INET6 if isinstance(address, ipaddress.IPv6Address) else socket.AF_INET
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError):
            detail = _connect_detail(error)
            raise PostError(RejectReason.CONNECT_FAILED, detail, str(address)) from None
        raise
    return sock


def _connect_detail(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"the host took no connection within {CONNECT_SECONDS_MAX:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "the host refuses connections on this port"
    return "the host could not be reached"
