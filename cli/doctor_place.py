"""What `tollwire doctor` looks at: the settings of this environment, or the instance of TOLLWIRE_HOME."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

from cli.database import DATABASE, POSTGRES_DSN
from cli.home import Home
from cli.ownership import told_whose
from cli.screen import how_to_start, short
from cli.servers import NATS_URL, NO_VALKEY, VALKEY_URL
from embedded.nats import NatsServer
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer, find_valkey
from shared.runtime.postgres_dsn import check_dsn, split_dsn
from shared.runtime.server_settings import ValkeyAccess
from shared.runtime.settings import FILE, PREFIX, SECRET, SettingsError, load, secret_text

SERVICES: Final = ("api", "worker", "dlr", "ledger")
KEYRING_FILE: Final = "TOLLWIRE_KEYRING_FILE"

# A wrong value, then two that do not go together; what is wrong after that is not looked at.
TRIES_MAX: Final = 3

Environ = Mapping[str, str]

_VARIABLE: Final = re.compile(rf"{PREFIX}[A-Z_]+")


class Access(ValkeyAccess, frozen=True, kw_only=True):
    """How a service gets at its servers, and none of it is required: what is missing is not looked at."""

    postgres_dsn: Annotated[str, Meta(extra=SECRET | {"check": check_dsn})] = ""
    keyring_file: str = ""

    @property
    def dsn(self) -> str:
        """The whole DSN, with the password and TLS that stand beside it; empty: none."""
        return self.complete(self.postgres_dsn) if self.postgres_dsn else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look. ``environs`` has the environment of each service that is looked at.

    ``home`` is the instance whose processes belong to it; None where they are elsewhere, as in a pod.
    """

    title: str
    own: Environ
    environs: Mapping[str, Environ]
    accesses: Mapping[str, Access]
    home: Home | None
    idle: str = ""
    """What starts the servers of the home, when nothing runs there."""
    embedded: frozenset[str] = frozenset()
    """The settings whose servers are the home's own."""

    def starts(self, variable: str) -> str:
        """What starts the server that the setting names, if it is the home's and nothing runs there."""
        return self.idle if variable in self.embedded else ""

    @property
    def access(self) -> Access:
        """That of one of the services: what they share is the same in each."""
        return next(iter(self.accesses.values()))


def find_place(environ: Environ, services: Sequence[str]) -> Place:
    """Return what to look at; no services named are those that the settings are for.

    Raises:
        cli.ownership.NotOurs: the home is another account's.
    """
    home = Home.of(environ)
    with told_whose(home.path):
        embedded = _embedded(home, environ)
    wanted = services or _meant(environ)
    title = f"the instance in {short(home.path)}" if embedded else "the settings of this environment"
    if len(wanted) < len(SERVICES):
        title += f", for {' and '.join(wanted)}"
    environs = {service: _environ_of(service, home, environ, embedded) for service in wanted}
    accesses = {service: _access(told) for service, told in environs.items()}
    is_running = home.is_running
    return Place(
        title,
        environ,
        environs,
        accesses,
        home if embedded or is_running else None,
        idle="" if is_running else how_to_start(home),
        embedded=frozenset().union(*embedded.values()),
    )


def _access(environ: Environ) -> Access:
    """Read what is right; what is wrong is told by the check of the settings, and counts as not set."""
    told = dict(environ)
    for _ in range(TRIES_MAX):
        try:
            return load(Access, told)
        except SettingsError as error:
            wrong = {name for line in error.faults for name in _VARIABLE.findall(line)}
            told = {name: value for name, value in told.items() if name not in wrong}
    return Access()


def _meant(environ: Environ) -> Sequence[str]:
    """One service where the DSN is that of its role, as in a pod; else all."""
    try:
        user = split_dsn(secret_text(POSTGRES_DSN, environ)).username or ""
    except (SettingsError, ValueError):  # told by the check of the settings
        user = ""
    service = user.removeprefix("tollwire_")
    has_others = any(_is_set(_own_dsn(name), environ) for name in SERVICES)
    return (service,) if service in SERVICES and not has_others else SERVICES


def _is_set(variable: str, environ: Environ) -> bool:
    return bool(environ.get(variable) or environ.get(variable + FILE))


def _own_dsn(service: str) -> str:
    return f"TOLLWIRE_{service.upper()}_POSTGRES_DSN"


def _embedded(home: Home, environ: Environ) -> dict[str, dict[str, str]]:
    """The servers that `tollwire up` started in the home, by service; empty when there are none."""
    ports = home.read_ports()
    if _is_set(POSTGRES_DSN, environ) or "postgresql" not in ports:
        return {}
    shared: dict[str, str] = {}
    if not _is_set(NATS_URL, environ) and "nats" in ports:
        nats = NatsServer(home.nats, port=ports["nats"], monitor_port=ports.get("nats monitor", 1))
        shared |= {NATS_URL: nats.url, "TOLLWIRE_NATS_TOKEN": nats.token}
    if not _is_set(VALKEY_URL, environ) and "valkey" in ports:
        program = find_valkey()
        shared[VALKEY_URL] = (
            ValkeyServer(home.valkey, program=program, port=ports["valkey"]).url if program else ""
        )
    postgres = PostgresServer(home.postgres, port=ports["postgresql"])
    return {
        service: {**shared, POSTGRES_DSN: postgres.dsn(user=f"tollwire_{service}", database=DATABASE)}
        for service in SERVICES
    }


def _environ_of(
    service: str, home: Home, environ: Environ, embedded: Mapping[str, Mapping[str, str]]
) -> Environ:
    """What the service is told, as `tollwire up` or a pod's specification tells it."""
    told = {**environ, **embedded.get(service, {})}
    if _is_set(_own_dsn(service), environ):
        for end in ("", FILE):
            told[POSTGRES_DSN + end] = environ.get(_own_dsn(service) + end, "")
    if told.get(VALKEY_URL) == NO_VALKEY:
        told[VALKEY_URL] = ""
    # An instance that ran in the home has its keyring there, also when the file is away.
    if not told.get(KEYRING_FILE) and (home.read_ports() or home.keyring.exists()):
        told[KEYRING_FILE] = str(home.keyring)
    return told
