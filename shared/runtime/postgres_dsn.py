"""A PostgreSQL DSN that says all: what stands in settings beside it becomes part of it."""

import re
import ssl
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from shared.runtime.tls import TlsFiles

# As libpq's sslrootcert=system; asyncpg wants the file's name. The last is Debian's.
_SYSTEM: Final = ssl.get_default_verify_paths()
SYSTEM_CA_FILE: Final = _SYSTEM.cafile or "/etc/ssl/certs/ca-certificates.crt"
_AFTER_NETLOC: Final = re.compile("[/?#]")
_VERIFYING: Final = frozenset({"verify-ca", "verify-full"})


def split_dsn(dsn: str) -> SplitResult:
    """Split a DSN, or a URL of Valkey, that may name several hosts, each looked at by itself.

    Newer Pythons, and those that Debian mends, refuse a host in brackets behind another one.

    Raises:
        ValueError: a host's brackets do not close, or hold no address.
    """
    scheme, begins, rest = dsn.partition("://")
    if not begins:
        return urlsplit(dsn)
    netloc = _AFTER_NETLOC.split(rest, maxsplit=1)[0]
    for host in netloc.rpartition("@")[2].split(","):
        urlsplit(f"//{host}")
    return urlsplit(f"{scheme}://{rest[len(netloc) :]}")._replace(netloc=netloc)


def check_dsn(dsn: str) -> None:
    """Refuse a DSN of which a host or a port cannot be read.

    Raises:
        ValueError: so it is; often a password has one of /?#@:[] in it that is not written by its code.
    """
    for host in split_dsn(dsn).netloc.rpartition("@")[2].split(","):
        _ = urlsplit(f"//{host}").port


def check_servers(urls: str) -> None:
    """Refuse URLs of NATS, separated by commas, that one has no host, or no number as its port.

    Raises:
        ValueError: so it is.
    """
    for url in urls.split(","):
        place = urlsplit(url.strip() if "://" in url else f"//{url.strip()}")
        if not place.hostname or place.port == 0:
            raise ValueError("no host, or no port")


def complete_dsn(dsn: str, password: str, tls: str, files: TlsFiles) -> str:
    """Return the DSN with a password, when it has none, and with the TLS settings, which win over its own.

    Args:
        dsn: ``postgresql://user@host,host/database?sslmode=…``.
        password: empty for none.
        tls: an sslmode; empty: the DSN's own, or verify-full when files are named.
        files: those of TLS.
    """
    parts = split_dsn(dsn)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    mode = tls or query.get("sslmode") or ("verify-full" if files.any else "")
    if mode:
        query["sslmode"] = mode
    if files.ca:
        query["sslrootcert"] = files.ca
    elif mode in _VERIFYING:
        query.setdefault("sslrootcert", SYSTEM_CA_FILE)
    if files.cert:
        query |= {"sslcert": files.cert, "sslkey": files.key}
    netloc = parts.netloc
    user, at, hosts = netloc.rpartition("@")
    if password and user and ":" not in user and "password" not in query:
        netloc = f"{user}:{quote(password, safe='')}{at}{hosts}"
    return parts._replace(netloc=netloc, query=urlencode(query)).geturl()
