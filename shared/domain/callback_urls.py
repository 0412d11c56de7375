"""The URLs that a client may name for its callbacks: read strictly, never repaired.

Parsers that forgive (``2130706433``, ``0x7f.1``, ``127.1`` and ``017700000001`` are all 127.0.0.1 to some
of them) are how checks are passed by. So a host is either a name of plain labels or an address in its one
canonical spelling, and everything else is refused with a sentence that says what would be right.
A URL that passes here is not trusted yet: a name's addresses are checked when they are connected to.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.domain.callback_networks import DENIED_MAX, DeniedNetwork, IPAddress, parse_denied, refusal

# What browsers and proxies agree to carry; a longer one is a mistake or an attack.
URL_LENGTH_MAX = 2_048
# RFC 1035: 253 characters and 63 a label.
HOST_LENGTH_MAX = 253
DEFAULT_PORTS = {"https": 443, "http": 80}
# Where web servers listen. A callback must not become a port scanner or speak to a mail server.
PUBLIC_PORTS = (80, 443, 8080, 8443)
PORT_MAX = 65_535
# Below it are the well-known services; a laptop's receivers listen above.
UNPRIVILEGED_PORT_MIN = 1_024

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<authority>[^/?]*)(?P<target>.*)", re.DOTALL)
# RFC 3986: unreserved, reserved without "#", and "%".
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>.*))?", re.DOTALL)
_LABEL = re.compile(r"(?!-)[a-z0-9_\-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class CallbackUrlError(ValueError):
    """The callback URL is not one that Tollwire calls. The message says what would be right."""


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What an operator lets clients call.

    ``allow_private`` is for a laptop: loopback and private addresses, names of one label, plain http, and
    every port from UNPRIVILEGED_PORT_MIN. Metadata services and the like stay shut.
    """

    allow_private: bool = False
    https_only: bool = True
    ports: frozenset[int] = frozenset(PUBLIC_PORTS)
    denied: tuple[DeniedNetwork, ...] = ()

    def allows_scheme(self, scheme: str) -> bool:
        """Return whether this scheme may be called; plain http shows the message to everybody on the way."""
        return scheme == "https" or (scheme == "http" and (self.allow_private or not self.https_only))

    def allows_port(self, port: int) -> bool:
        """Return whether this port may be called."""
        return port in self.ports or (self.allow_private and port >= UNPRIVILEGED_PORT_MIN)

    @property
    def ports_in_words(self) -> str:
        """The ports that may be called, as "80, 443 and all from 1024 on"."""
        first_of_all = UNPRIVILEGED_PORT_MIN if self.allow_private else PORT_MAX + 1
        named = ", ".join(str(port) for port in sorted(self.ports) if port < first_of_all)
        rest = f"all from {UNPRIVILEGED_PORT_MIN} on" if self.allow_private else ""
        return " and ".join(filter(None, (named, rest)))

    def refusal(self, address: IPAddress, port: int) -> str | None:
        """Return why this address may not be connected to, or None."""
        return refusal(address, port, allow_private=self.allow_private, denied=self.denied)


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """A URL taken apart. ``host`` is a lower-case name or an address without brackets."""

    scheme: str
    host: str
    port: int
    target: str
    address: IPAddress | None

    @property
    def authority(self) -> str:
        """What the Host header says: the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class CallbackUrlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about callback URLs: api refuses by it early, dlr when it connects."""

    callback_allow_private: Annotated[
        bool,
        Meta(description="1: callbacks may go to this machine and private networks. For a laptop only."),
    ] = False
    callback_https_only: Annotated[
        bool,
        Meta(description="0: callback URLs may begin with http:// too. Numbers then travel in the clear."),
    ] = True
    callback_ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=PORT_MAX)], ...],
        Meta(
            min_length=1,
            description="Ports that callbacks may go to, as 80,443.",
            extra={"right": f"numbers from 1 to {PORT_MAX}, separated by commas"},
        ),
    ] = PUBLIC_PORTS
    callback_denied: Annotated[
        tuple[str, ...],
        Meta(
            max_length=DENIED_MAX,
            description="Addresses, networks or address:port that callbacks never go to besides: your own.",
            extra={
                "check": parse_denied,
                "right": f"at most {DENIED_MAX} networks without host bits, or addresses, also with a port",
            },
        ),
    ] = ()


def policy_of(settings: CallbackUrlSettings) -> UrlPolicy:
    """Make the policy of an operator's settings.

    Raises:
        ValueError: an entry of ``callback_denied`` is no address or network; the message names it.
    """
    return UrlPolicy(
        allow_private=settings.callback_allow_private,
        https_only=settings.callback_https_only,
        ports=frozenset(settings.callback_ports),
        denied=tuple(parse_denied(entry) for entry in settings.callback_denied),
    )


def parse_callback_url(text: str, policy: UrlPolicy) -> CallbackUrl:
    """Read a callback URL.

    Raises:
        CallbackUrlError: it is not well-formed, not canonical, or the policy does not let it be called.
    """
    if len(text) > URL_LENGTH_MAX:
        raise CallbackUrlError(f"the URL is longer than {URL_LENGTH_MAX} characters")
    if "#" in text:
        raise CallbackUrlError("a callback URL has no #fragment: it would never be sent")
    if not _CHARACTERS.fullmatch(text):
        raise CallbackUrlError("write other characters percent-encoded, and a host with others as xn--…")
    match = _URL.fullmatch(text)
    if match is None:
        raise CallbackUrlError("a callback URL begins with https:// and a host")
    scheme = match["scheme"].lower()
    if not policy.allows_scheme(scheme):
        raise CallbackUrlError(f"a callback URL begins with https://, not {scheme}://")
    host, port_text = _split_authority(match["authority"])
    port = _parse_port(port_text, scheme, policy)
    host, address = _parse_host(host, policy)
    reason = policy.refusal(address, port) if address else None
    if reason:
        raise CallbackUrlError(f"{host} may not be called: {reason}")
    target = match["target"]
    return CallbackUrl(scheme, host, port, target if target.startswith("/") else f"/{target}", address)


def _split_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise CallbackUrlError(
            "a callback URL carries no user name or password: callbacks are signed instead"
        )
    if "[" in authority or "]" in authority:
        match = _BRACKETED.fullmatch(authority)
        if match is None:
            raise CallbackUrlError("an IPv6 host is written in brackets, like https://[2606:4700::1111]/")
        return f"[{match['host']}", match["port"]
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _parse_port(text: str | None, scheme: str, policy: UrlPolicy) -> int:
    port = DEFAULT_PORTS[scheme]
    if text is not None:
        if not _PORT.fullmatch(text) or int(text) > PORT_MAX:
            raise CallbackUrlError(f"{text[:20]!r} is no port; write a number from 1 to {PORT_MAX}")
        port = int(text)
    if not policy.allows_port(port):
        raise CallbackUrlError(f"port {port} is not called; the ports that are: {policy.ports_in_words}")
    return port


def _parse_host(host: str, policy: UrlPolicy) -> tuple[str, IPAddress | None]:
    if host.startswith("["):
        return _canonical(host[1:], ipaddress.IPv6Address)
    host = host.lower()
    labels = host.split(".")
    # As browsers do: a last label that is a number makes the whole host an IPv4 address.
    if _NUMBER.fullmatch(labels[-1]):
        return _canonical(host, ipaddress.IPv4Address)
    if not host or len(host) > HOST_LENGTH_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise CallbackUrlError(
            f"{host[:80]!r} is no host name: letters, digits and hyphens between single dots"
        )
    if len(labels) == 1 and not policy.allow_private:
        raise CallbackUrlError(f"{host!r} is a name of a private network; a public one has a dot")
    return host, None


def _canonical(text: str, kind: type[IPAddress]) -> tuple[str, IPAddress]:
    try:
        address = kind(text)
    except ValueError:
        raise CallbackUrlError(
            f"{text[:80]!r} is no address; write an IPv4 address as four decimal numbers"
        ) from None
    if str(address) != text.lower():
        raise CallbackUrlError(f"write the address {text[:80]!r} as {address}")
    return str(address), address
