"""Which address a request comes from, behind proxies that the operator trusts (RULES 37).

X-Forwarded-For is a text that anybody can send. It is read only when the peer itself is a trusted
proxy, from its right end, and the first address that is not a trusted proxy's is the caller.
"""

import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import structlog

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A peer without an address: a Unix socket.
UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing is bound to it
# More hops than any real chain of proxies; what lies beyond is not read.
HOPS_MAX = 10
# One customer of an IPv6 provider has a /64; a limit for each of its addresses would limit nothing.
IPV6_PREFIX_BITS = 64
# RFC 4291, 2.5.5.2: what stands before an IPv4 address that is written as IPv6.
MAPPED_PREFIX_BITS = 96
# Addresses seen lately; one is about 300 bytes.
ADDRESSES_CACHED = 10_000
# Of a hop that is no address, as much is logged.
HOP_SHOWN_CHARACTERS = 40

# As Azure's gateways and IIS write a hop: with the port of the connection, an IPv6 address in brackets.
_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[^\]]+)\](:[0-9]{1,5})?")
# A host's name: labels of letters, digits and hyphens, and the underscore that containers' names have.
_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")

_log = structlog.get_logger(__name__)


class AddressReader:
    """Finds the caller's address, given the trusted proxies, as ``check_network`` reads them."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = tuple(check_network(text) for text in trusted_proxies)
        self._has_warned = False

    @property
    def trusts_any(self) -> bool:
        """Whether any proxy is trusted; without one the peer is the caller."""
        return bool(self._trusted)

    def caller(self, peer: str | None, forwarded_for: Sequence[str]) -> str:
        """Return the caller's address as text; the peer's own when no trusted proxy vouches for another.

        ``forwarded_for`` are the values of X-Forwarded-For in the order of the request.
        """
        peer = peer or UNKNOWN
        if not forwarded_for or not self._is_trusted(peer):
            return peer
        caller = peer
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        for written in reversed(hops[-HOPS_MAX:]):
            hop = _without_port(written)
            if read_address(hop) is None:
                self._warn(caller, written)
                break
            caller = hop
            if not self._is_trusted(hop):
                break
        return caller

    def _warn(self, proxy: str, hop: str) -> None:
        """Say once that callers are not seen: limits and address lists see the proxy instead."""
        if self._has_warned:
            return
        self._has_warned = True
        hint = "it counts as the caller itself; let it write addresses"
        shown = hop[:HOP_SHOWN_CHARACTERS]
        _log.warning("a trusted proxy forwards for no address", proxy=proxy, forwarded_for=shown, hint=hint)

    def _is_trusted(self, text: str) -> bool:
        address = read_address(text)
        return address is not None and is_inside(address, self._trusted)


def _without_port(hop: str) -> str:
    found = _WITH_PORT.fullmatch(hop)
    return hop if found is None else found["v4"] or found["v6"]


@lru_cache(maxsize=ADDRESSES_CACHED)
def read_address(text: str) -> Address | None:
    """Read an address; None if it is none. An IPv4 address written as IPv6 is that IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def check_network(text: str) -> Network:
    """Read an operator's network, ``10.0.0.0/8``, or an address alone; bits behind its prefix do not count.

    Raises:
        ValueError: it is neither.
    """
    return ipaddress.ip_network(text, strict=False)


def check_host(text: str) -> None:
    """Refuse what nothing can listen on: neither an address without brackets nor a name, or with a port.

    Raises:
        ValueError: it is not one.
    """
    with suppress(ValueError):
        ipaddress.ip_address(text)
        return
    if not _NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is no address and no name")


def network_as_read(text: str) -> str:
    """A network as its callers are read: one of IPv4 addresses written as IPv6 is that IPv4 network.

    Raises:
        ValueError: it is none, is shortened, has a zone, or bits behind its prefix.
    """
    # A zone is a name on one machine, and no caller is read with one.
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    network = ipaddress.ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_PREFIX_BITS:
        return str(network)
    return f"{mapped}/{network.prefixlen - MAPPED_PREFIX_BITS}"


@lru_cache(maxsize=ADDRESSES_CACHED)
def limit_subject(text: str) -> str:
    """The name under which an address is limited: itself, or its /64."""
    address = read_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX_BITS), strict=False))
    return text


def is_inside(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether the address lies in one of the networks."""
    return any(address in network for network in networks)
