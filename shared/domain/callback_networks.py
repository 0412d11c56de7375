"""Addresses that a callback never goes to: whatever is not a plain public host of somebody else's.

A client chooses the URL, and the gateway connects from inside the operator's network: without this table
a callback could reach a cloud's metadata service, a database or the gateway itself (SSRF). Each network is
listed with its reason. ``ipaddress.is_global`` alone would not do: it calls multicast, 6to4, NAT64 and the
IPv4-compatible range global. Sources: the IANA special-purpose registries, RFC 6890 and its updates.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_PRIVATE = "a private network"
_LOOPBACK = "loopback"
_DOCUMENTATION = "a documentation network"

# What a laptop or a closed network may open with ``allow_private``. Everything else stays shut even then.
_PRIVATE_NETWORKS = {
    "10.0.0.0/8": _PRIVATE,
    "127.0.0.0/8": _LOOPBACK,
    "172.16.0.0/12": _PRIVATE,
    "192.168.0.0/16": _PRIVATE,
    "::1/128": _LOOPBACK,
    "fc00::/7": _PRIVATE,
}

_BLOCKED_NETWORKS = {
    "0.0.0.0/8": "this host",
    "100.64.0.0/10": "a carrier's shared address space",
    "168.63.129.16/32": "a cloud's metadata service",
    "169.254.0.0/16": "link-local, where clouds keep their metadata service",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": _DOCUMENTATION,
    "192.88.99.0/24": "6to4 relays",
    "198.18.0.0/15": "a benchmarking network",
    "198.51.100.0/24": _DOCUMENTATION,
    "203.0.113.0/24": _DOCUMENTATION,
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved or broadcast",
    "fd00:ec2::254/128": "a cloud's metadata service",
    "fd20:ce::254/128": "a cloud's metadata service",
    "::/128": "the unspecified address",
    "::/96": "an IPv4-compatible address",
    "::ffff:0:0/96": "an IPv4-mapped address",
    "::ffff:0:0:0/96": "an IPv4-translated address",
    "64:ff9b::/96": "an IPv4 address behind NAT64",
    "64:ff9b:1::/48": "an IPv4 address behind NAT64",
    "100::/64": "the discard prefix",
    "100:0:0:1::/64": "the dummy prefix",
    "2001::/32": "an IPv4 address in Teredo",
    "2001::/23": "protocol assignments",
    "2001:db8::/32": _DOCUMENTATION,
    "2002::/16": "an IPv4 address in 6to4",
    "3fff::/20": _DOCUMENTATION,
    "5f00::/16": "segment routing",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}

# Only this range of IPv6 is given out to hosts of the public Internet; the rest needs no name to be refused.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")

_ADDRESS_AND_PORT = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})")
# An operator's own list is short: its public addresses, perhaps a partner's network.
DENIED_MAX = 256


@dataclass(frozen=True, slots=True)
class DeniedNetwork:
    """A network, or one port of it, that an operator shuts on top of the table: its own public addresses."""

    network: IPNetwork
    port: int | None

    def covers(self, address: IPAddress, port: int) -> bool:
        """Return whether a connection to this address and port is shut."""
        return self.port in {None, port} and address in self.network


@dataclass(frozen=True, slots=True)
class _Rule:
    network: IPNetwork
    reason: str
    is_private: bool


def _rules() -> tuple[_Rule, ...]:
    """Return both tables in one, the narrowest network first: the most exact line decides."""
    tables = ((_PRIVATE_NETWORKS, True), (_BLOCKED_NETWORKS, False))
    rules = [
        _Rule(ipaddress.ip_network(text), reason, is_private)
        for table, is_private in tables
        for text, reason in table.items()
    ]
    return tuple(sorted(rules, key=lambda rule: rule.network.prefixlen, reverse=True))


_RULES = _rules()


def refusal(
    address: IPAddress, port: int, *, allow_private: bool = False, denied: Iterable[DeniedNetwork] = ()
) -> str | None:
    """Return why no callback may go to this address and port, or None when it may.

    ``allow_private`` opens loopback, RFC 1918 and unique local addresses, nothing else.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "an address with a zone"
    rule = next((rule for rule in _RULES if address in rule.network), None)
    if rule is not None and not (rule.is_private and allow_private):
        return rule.reason
    if rule is None and isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
        return "outside the public Internet"
    shut = any(entry.covers(address, port) for entry in denied)
    return "shut by the operator" if shut else None


def parse_denied(text: str) -> DeniedNetwork:
    """Read an entry of an operator's list: ``198.51.100.7``, ``198.51.100.0/24``, ``198.51.100.7:443``,
    ``[2606:4700::1]:443``.

    Raises:
        ValueError: it is none of these; the message names it.
    """
    match = _ADDRESS_AND_PORT.fullmatch(text)
    try:
        if match is None:
            return DeniedNetwork(ipaddress.ip_network(text), None)
        return DeniedNetwork(ipaddress.ip_network(match["v4"] or match["v6"]), int(match["port"]))
    except ValueError as error:
        raise ValueError(f"{text!r} is no address, network, or address with a port: {error}") from None
