"""Who may tell us that a message was delivered (RULES 37): receipts move money.

Three ways, one a carrier: a signature over the raw body, a bearer token, or the carrier's addresses.
Each may be narrowed to a list of networks. The signature is a header

    X-Tollwire-Carrier-Signature: t=<unix seconds>,v1=<hex of HMAC-SHA256(secret, "<t>." + body)>

with as many `v1` as the sender has secrets while it rotates them. A replay inside the tolerance is
harmless: the same receipt settles once. Comparisons take the same time for any wrong answer.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from shared.domain.carrier_secrets import RECEIPTS_SECRET, CarrierSecretMissing, named_secret

SIGNATURE_HEADER = "X-Tollwire-Carrier-Signature"
# As Standard Webhooks: clocks may differ, a recorded request must not be of use for long.
TOLERANCE_SECONDS = 300
# A header is a handful of signatures; the rest is noise that must not cost time.
SIGNATURE_HEADER_MAX_CHARS = 1_024
SIGNATURES_MAX = 5
NETWORKS_MAX = 1_000


class ReceiptNotAuthentic(Exception):  # noqa: N818 - named for what happened
    """The receipt does not prove that the carrier sent it; the text is for our log, not for the sender."""


class _Networks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.networks) > NETWORKS_MAX:
            raise ValueError(f"networks: at most {NETWORKS_MAX}")
        parse_networks(self.networks)


class HmacAuth(_Networks, frozen=True, tag_field="kind", tag="hmac"):
    """The body is signed; see the head of this module."""

    header: str = SIGNATURE_HEADER
    tolerance_seconds: int = TOLERANCE_SECONDS


class BearerAuth(_Networks, frozen=True, tag_field="kind", tag="bearer"):
    """`Authorization: Bearer <secret>`, or the bare secret in a header of another name."""

    header: str = "Authorization"


class AddressAuth(_Networks, frozen=True, tag_field="kind", tag="address"):
    """Only the address speaks for the carrier. For carriers that can do no better."""

    def __post_init__(self) -> None:
        """An empty list would let everybody in."""
        super().__post_init__()
        if not self.networks:
            raise ValueError("networks: name at least one address or network")


ReceiptAuth = HmacAuth | BearerAuth | AddressAuth

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=1_024)
def parse_networks(networks: tuple[str, ...]) -> tuple[Network, ...]:
    """Read addresses and networks such as 192.0.2.7 or 2001:db8::/32; ValueError names the wrong one."""
    return tuple(ipaddress.ip_network(text) for text in networks)


def verify_receipt_auth(
    auth: ReceiptAuth,
    secret: bytes | None,
    headers: Mapping[str, str],
    remote: str | None,
    body: bytes,
    now_unix_seconds: float,
) -> None:
    """Return when the POST comes from the carrier.

    `secret` is what the carrier's sealed secret opened to (see carrier_secrets); `remote` the peer's address,
    already looked up behind trusted proxies; `body` the raw bytes.

    Raises:
        ReceiptNotAuthentic: it does not, or nobody can tell.
    """
    verify_receipt_head(auth, secret, headers, remote, now_unix_seconds)
    if isinstance(auth, HmacAuth):
        _verify_signature(_header(headers, auth.header), _key(secret), body)


def verify_receipt_head(
    auth: ReceiptAuth,
    secret: bytes | None,
    headers: Mapping[str, str],
    remote: str | None,
    now_unix_seconds: float,
) -> bool:
    """Return whether a POST is proven to be the carrier's before its body is read; a signature needs that.

    Raises:
        ReceiptNotAuthentic: it is not the carrier's, whatever its body is.
    """
    if auth.networks and not _is_inside(remote, parse_networks(auth.networks)):
        raise ReceiptNotAuthentic("the address is not one of the carrier's")
    if isinstance(auth, AddressAuth):
        return True
    key = _key(secret)
    given = _header(headers, auth.header)
    if isinstance(auth, BearerAuth):
        _verify_bearer(given, key)
        return True
    stamp, _ = _signature_parts(given)
    if abs(now_unix_seconds - int(stamp)) > auth.tolerance_seconds:
        raise ReceiptNotAuthentic("the signature's time is outside the tolerance")
    return False


def sign_receipts(secret: str, body: bytes, now_unix_seconds: int) -> str:
    """Return the value of the signature header for a body sent now."""
    return f"t={now_unix_seconds},v1={_mac(secret.encode(), str(now_unix_seconds), body)}"


def as_sent(header: str) -> bytes:
    """Return a header's bytes: what is no UTF-8 reaches us as lone surrogates."""
    return header.encode("utf-8", "surrogateescape")


def _key(secret: bytes | None) -> bytes:
    try:
        return named_secret(secret, RECEIPTS_SECRET).encode()
    except CarrierSecretMissing as error:
        raise ReceiptNotAuthentic(str(error)) from None


def _mac(key: bytes, stamp: str, body: bytes) -> str:
    return hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _verify_bearer(given: str, key: bytes) -> None:
    scheme, _, token = given.partition(" ")
    presented = token.strip() if scheme.lower() == "bearer" else given
    if not hmac.compare_digest(as_sent(presented), key):
        raise ReceiptNotAuthentic("the token is wrong")


def _verify_signature(given: str, key: bytes, body: bytes) -> None:
    stamp, signatures = _signature_parts(given)
    expected = _mac(key, stamp, body).encode()
    # Every candidate is compared, so that the time tells nothing about which one was near.
    matches = [hmac.compare_digest(as_sent(signature), expected) for signature in signatures]
    if not any(matches):
        raise ReceiptNotAuthentic("the signature is wrong")


def _signature_parts(given: str) -> tuple[str, Sequence[str]]:
    if not given or len(given) > SIGNATURE_HEADER_MAX_CHARS:
        raise ReceiptNotAuthentic("the signature is missing or too long")
    pairs = [part.strip().partition("=") for part in given.split(",")]
    stamps = [value for name, _, value in pairs if name == "t"]
    signatures = [value.lower() for name, _, value in pairs if name == "v1"]
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdigit() and len(stamps[0]) <= 12):
        raise ReceiptNotAuthentic("the signature names no time")
    if not 0 < len(signatures) <= SIGNATURES_MAX:
        raise ReceiptNotAuthentic("the signature has no v1, or too many")
    return stamps[0], signatures


def _header(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name)
    if found is None:  # a plain dict knows one spelling; names of headers have none
        found = next((value for key, value in headers.items() if key.lower() == name.lower()), "")
    return found


def _is_inside(remote: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
