"""How the services find PostgreSQL, NATS and Valkey, what they show them, and whom they believe.

Each server has the same three files (who signs its certificate; our own certificate and its key, where it
wants one) and the same words for how its certificate is looked at, which are PostgreSQL's.
"""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.runtime.addresses import check_network
from shared.runtime.nats_login import login_faults
from shared.runtime.postgres_dsn import check_dsn, check_servers, complete_dsn, split_dsn
from shared.runtime.settings import PREFIX, SECRET, Process, SettingsError
from shared.runtime.tls import TlsFiles, tls_faults

PostgresTls = Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"]
ServerTls = Literal["", "require", "verify-ca", "verify-full"]

_VALKEY_WITH_TLS: Final = ("rediss", "valkeys")
_TLS_WORDS: Final = "verify-full: who signed it and its name; verify-ca: who signed it; require: neither"


class PostgresAccess(Process, frozen=True, kw_only=True):
    """How PostgreSQL is spoken to, wherever it is."""

    postgres_tls: Annotated[
        PostgresTls,
        Meta(
            description=f"TLS to PostgreSQL, as its sslmode. {_TLS_WORDS}. "
            "Empty: what the DSN says, or verify-full when a file is named below."
        ),
    ] = ""
    postgres_ca_file: Annotated[
        str, Meta(description="PEM file of who signs PostgreSQL's certificate. Empty: the system's.")
    ] = ""
    postgres_cert_file: Annotated[
        str, Meta(description="PEM file of the certificate that PostgreSQL is shown, with its chain.")
    ] = ""
    postgres_key_file: Annotated[str, Meta(description="PEM file of that certificate's key.")] = ""
    postgres_password: Annotated[
        str, Meta(description="Password, for a DSN that has none.", extra=SECRET)
    ] = ""

    def complete(self, dsn: str) -> str:
        """Return the DSN with the password and the TLS settings that stand beside it."""
        return complete_dsn(dsn, self.postgres_password, self.postgres_tls, self.postgres_files)

    @property
    def postgres_files(self) -> TlsFiles:
        """The files of TLS to PostgreSQL."""
        return TlsFiles(
            f"{PREFIX}POSTGRES", self.postgres_ca_file, self.postgres_cert_file, self.postgres_key_file
        )

    def __post_init__(self) -> None:
        if faults := tls_faults(self.postgres_files):
            raise SettingsError(faults)


class NatsAccess(PostgresAccess, frozen=True, kw_only=True):
    """How NATS is spoken to, wherever it is."""

    nats_url: Annotated[
        str,
        Meta(
            pattern=r"^(nats|tls)://",
            description="NATS servers, separated by commas. tls:// refuses one without TLS.",
            extra=SECRET | {"check": check_servers},
            examples=["nats://127.0.0.1:4222"],
        ),
    ] = "nats://127.0.0.1:4222"
    nats_token: Annotated[
        str, Meta(description="Token of the NATS servers, if they want one.", extra=SECRET)
    ] = ""
    nats_user: Annotated[str, Meta(description="User of NATS, if it wants one.")] = ""
    nats_password: Annotated[str, Meta(description="That user's password.", extra=SECRET)] = ""
    nats_nkey_file: Annotated[
        str, Meta(description="File with the seed of an NKey (SU…) that signs in to NATS.")
    ] = ""
    nats_creds_file: Annotated[
        str, Meta(description="Credentials file of NATS: a user's JWT and the seed of its NKey.")
    ] = ""
    nats_tls: Annotated[
        ServerTls,
        Meta(
            description=f"How NATS's certificate is looked at. {_TLS_WORDS}. Empty: verify-full. "
            "TLS is used when this or a file below is set, for tls://, and when the server wants it."
        ),
    ] = ""
    nats_ca_file: Annotated[
        str, Meta(description="PEM file of who signs NATS's certificate. Empty: the system's.")
    ] = ""
    nats_cert_file: Annotated[
        str, Meta(description="PEM file of the certificate that NATS is shown, with its chain.")
    ] = ""
    nats_key_file: Annotated[str, Meta(description="PEM file of that certificate's key.")] = ""
    nats_replicas: Annotated[
        int, Meta(ge=1, le=5, description="Copies of each stream: 1 on one server, 3 in a cluster.")
    ] = 1
    nats_store_bytes: Annotated[
        int, Meta(ge=64 * 2**20, description="Disk that all streams together may fill on a server.")
    ] = 1 * 2**30
    nats_compression: Annotated[
        Literal["none", "s2"],
        Meta(description="Compression of the streams on disk: s2 spends a little CPU for about half of it."),
    ] = "none"

    @property
    def nats_files(self) -> TlsFiles:
        """The files of TLS to NATS."""
        return TlsFiles(f"{PREFIX}NATS", self.nats_ca_file, self.nats_cert_file, self.nats_key_file)

    @property
    def nats_wants_tls(self) -> bool:
        """True when a server without TLS is refused."""
        return self.nats_url.startswith("tls://") or bool(self.nats_tls) or self.nats_files.any

    def __post_init__(self) -> None:
        super().__post_init__()
        files = login_faults(self.nats_nkey_file, self.nats_creds_file)
        if faults := tls_faults(self.nats_files) + files:
            raise SettingsError(faults)
        shown = {
            "NATS_TOKEN": self.nats_token,
            "NATS_USER": self.nats_user,
            "NATS_NKEY_FILE": self.nats_nkey_file,
            "NATS_CREDS_FILE": self.nats_creds_file,
        }
        given = [PREFIX + name for name, value in shown.items() if value]
        if len(given) > 1:
            raise SettingsError([f"{' and '.join(given)} are set; NATS takes one way to sign in"])


class ValkeyAccess(NatsAccess, frozen=True, kw_only=True):
    """How Valkey or Redis is spoken to, wherever it is."""

    valkey_url: Annotated[
        str,
        Meta(
            pattern=r"^((rediss?|valkeys?)(\+sentinel|\+cluster)?://.+|unix://.+)?$",
            description="Valkey or Redis; rediss:// with TLS; redis+sentinel://a:26379,b:26379/NAME/0; "
            "redis+cluster://a:6379,b:6379. Empty: none; limits are then local to each process.",
            extra=SECRET,
            examples=["redis://:secret@127.0.0.1:6379/0"],
        ),
    ] = ""
    valkey_user: Annotated[str, Meta(description="ACL user of Valkey, for a URL that has none.")] = ""
    valkey_password: Annotated[
        str, Meta(description="Password of Valkey, for a URL that has none.", extra=SECRET)
    ] = ""
    valkey_sentinel_password: Annotated[
        str, Meta(description="Password of the sentinels themselves, if they want one.", extra=SECRET)
    ] = ""
    valkey_tls: Annotated[
        ServerTls,
        Meta(description=f"How Valkey's certificate is looked at. {_TLS_WORDS}. Empty: verify-full."),
    ] = ""
    valkey_ca_file: Annotated[
        str, Meta(description="PEM file of who signs Valkey's certificate. Empty: the system's.")
    ] = ""
    valkey_cert_file: Annotated[
        str, Meta(description="PEM file of the certificate that Valkey is shown, with its chain.")
    ] = ""
    valkey_key_file: Annotated[str, Meta(description="PEM file of that certificate's key.")] = ""

    @property
    def valkey_files(self) -> TlsFiles:
        """The files of TLS to Valkey."""
        return TlsFiles(f"{PREFIX}VALKEY", self.valkey_ca_file, self.valkey_cert_file, self.valkey_key_file)

    def __post_init__(self) -> None:
        super().__post_init__()
        faults = tls_faults(self.valkey_files) + _valkey_faults(self.valkey_url)
        if (self.valkey_tls or self.valkey_files.any) and not self.valkey_url.startswith(_VALKEY_WITH_TLS):
            faults.append(
                f"{PREFIX}VALKEY_URL: it must begin with rediss, since files or a way of TLS are set"
            )
        if faults:
            raise SettingsError(faults)


def _valkey_faults(url: str) -> list[str]:
    """What is wrong with the hosts of a URL of Valkey; its words could be those of a password."""
    try:
        parts = split_dsn(url)
        names_many = parts.scheme.endswith(("+sentinel", "+cluster"))
        hosts = parts.netloc.rpartition("@")[2].split(",") if names_many else [parts.netloc]
        for host in hosts:
            _ = urlsplit(f"//{host.strip()}").port
    except ValueError:
        right = (
            "each host as a.example:6379 or [fd00::1]:6379, "
            "and what a password has of /?#@:[]% by its code, as %2F"
        )
        return [f"{PREFIX}VALKEY_URL: the value (not shown) is wrong; it must have {right}"]
    return []


class Common(ValkeyAccess, frozen=True, kw_only=True):
    """What the services that handle messages share."""

    postgres_dsn: Annotated[
        str,
        Meta(
            pattern=r"^postgres(ql)?://",
            description="PostgreSQL of this service's role, as tollwire_api; several hosts: postgresql://u:p@a:5432,b:5432/db.",
            extra=SECRET | {"check": check_dsn},
            examples=["postgresql://ROLE:secret@127.0.0.1:5432/tollwire"],
        ),
    ]
    postgres_pool_min: Annotated[
        int, Meta(ge=0, le=200, description="Connections that stay open while idle.")
    ] = 5
    postgres_pool_max: Annotated[
        int, Meta(ge=1, le=200, description="Connections at most; the sum over all processes must fit.")
    ] = 25
    keyring_file: Annotated[
        str,
        Meta(
            min_length=1,
            description="File with the keys that seal texts and secrets; mode 0600.",
            extra={"right": "the path of a file that `tollwire keyring create FILE` makes"},
        ),
    ]
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks whose X-Forwarded-For is believed, as 10.0.0.0/8,192.168.1.7.",
            extra={"check": check_network, "right": "addresses and networks, separated by commas"},
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.postgres_pool_min > self.postgres_pool_max:
            raise ValueError(
                f"{PREFIX}POSTGRES_POOL_MIN: {self.postgres_pool_min} is wrong; "
                f"it must not exceed {PREFIX}POSTGRES_POOL_MAX, which is {self.postgres_pool_max}"
            )
        # From here on the DSN says all of it: whoever gets one connects as the settings want.
        msgspec.structs.force_setattr(self, "postgres_dsn", self.complete(self.postgres_dsn))
