"""Which address a request comes from, behind proxies that the operator trusts (RULES 37).

X-Forwarded-For is a text that anybody can send. It is read only when the peer itself is a trusted
proxy, from its right end, and the first address that is not a trusted proxy's is the caller.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A peer without an address: a Unix socket.
UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing is bound to it
# More hops than any real chain of proxies; what lies beyond is not read.
HOPS_MAX = 10
# One customer of an IPv6 provider has a /64; a limit for each of its addresses would limit nothing.
IPV6_PREFIX_BITS = 64
# Addresses seen lately; one is about 300 bytes.
ADDRESSES_CACHED = 10_000


class AddressReader:
    """Finds the caller's address, given the networks of the trusted proxies."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(text, strict=False) for text in trusted_proxies)

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
        for hop in reversed(hops[-HOPS_MAX:]):
            if read_address(hop) is None:
                break
            caller = hop
            if not self._is_trusted(hop):
                break
        return caller

    def _is_trusted(self, text: str) -> bool:
        address = read_address(text)
        return address is not None and is_inside(address, self._trusted)


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
