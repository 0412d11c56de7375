"""PostgreSQL, NATS and Valkey of an instance: embedded ones, or the real ones that the environment names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cli.database import DATABASE, POSTGRES_DSN, named_dsn, secret
from cli.home import Home
from cli.port_choice import PortChoice
from embedded.nats import NatsServer
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database, set_passwords
from embedded.unit import Unit
from embedded.valkey import ValkeyServer, find_valkey
from shared.runtime.settings import FILE

NATS_URL, VALKEY_URL = "TOLLWIRE_NATS_URL", "TOLLWIRE_VALKEY_URL"
NO_VALKEY = "none"  # as TOLLWIRE_VALKEY_URL: run without, even where there is one
OF_THE_OPERATOR = "yours"  # shown as the version of a server that is not ours to know


@dataclass(frozen=True, slots=True)
class _One:
    """A pool of one connection."""

    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = 1


class Servers:
    """What the services stand on.

    Args:
        home: where embedded servers keep their data.
        ports: where embedded servers listen.
        environ: TOLLWIRE_POSTGRES_DSN, TOLLWIRE_NATS_URL and TOLLWIRE_VALKEY_URL name real servers;
            TOLLWIRE_VALKEY_URL=none runs without.
    """

    def __init__(self, home: Home, ports: PortChoice, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.postgres = None if _is_set(POSTGRES_DSN, environ) else _postgres(home, ports, environ)
        self.nats = None if _is_set(NATS_URL, environ) else _nats(home, ports, environ)
        self.valkey = None if _is_set(VALKEY_URL, environ) else _valkey(home, ports)

    @property
    def units(self) -> list[Unit]:
        """The embedded ones, in the order of their start."""
        return [unit for unit in (self.postgres, self.nats, self.valkey) if unit is not None]

    @property
    def has_valkey(self) -> bool:
        """False when there is none at all: then limits are local and PostgreSQL alone decides idempotency."""
        return self.valkey is not None or secret(VALKEY_URL, self._environ) not in {"", NO_VALKEY}

    @property
    def migrate_dsn(self) -> str:
        """The DSN that may create roles and tables."""
        if self.postgres is not None:
            return self.postgres.dsn(database=DATABASE)
        return named_dsn(self._environ, "TOLLWIRE_MIGRATE_DSN", POSTGRES_DSN)

    def environ(self, service: str) -> dict[str, str]:
        """Where the service finds its servers; with a real PostgreSQL it may have a DSN of its own."""
        if service == "simulator":
            return {}
        # An empty value counts as absent: the operator's own file for all must not stand beside the role's.
        own = {POSTGRES_DSN: self.dsn(service), f"{POSTGRES_DSN}{FILE}": ""}
        return {**own, **self._nats_environ(), **self._valkey_environ()}

    def dsn(self, service: str) -> str:
        """The DSN of the service's own role."""
        if self.postgres is not None:
            return self.postgres.dsn(user=f"tollwire_{service}", database=DATABASE)
        return named_dsn(self._environ, f"TOLLWIRE_{service.upper()}_POSTGRES_DSN", POSTGRES_DSN)

    def _nats_environ(self) -> dict[str, str]:
        # A real server's URL and token are in the environment that the services inherit.
        return {} if self.nats is None else {NATS_URL: self.nats.url, "TOLLWIRE_NATS_TOKEN": self.nats.token}

    def _valkey_environ(self) -> dict[str, str]:
        if self.valkey is not None:
            return {VALKEY_URL: self.valkey.url}
        return {} if self.has_valkey else {VALKEY_URL: ""}

    async def make_database(self) -> None:
        """Make our database in an embedded PostgreSQL; a real one has it already."""
        if self.postgres is not None:
            await ensure_database(self.postgres, DATABASE)

    async def set_passwords(self) -> None:
        """Tell an embedded PostgreSQL the roles' passwords; a real one's are the operator's."""
        if self.postgres is not None:
            await set_passwords(self.postgres)

    async def make_days(self) -> None:
        """Make the partitions of the days to come, so that after a long stop no service waits for them."""
        from ledger.days import make_days
        from shared.runtime.postgres import open_pool

        async with open_pool(_One(self.dsn("ledger")), application_name="tollwire") as pool:
            await make_days(pool)

    async def versions(self) -> dict[str, str | None]:
        """What runs, by part; None for a part that there is none of."""
        return {
            "postgresql": await self._postgres_version(),
            "nats": OF_THE_OPERATOR if self.nats is None else self.nats.version,
            "valkey": self._valkey_version(),
        }

    async def _postgres_version(self) -> str:
        if self.postgres is not None:
            return self.postgres.programs.version
        connection = await asyncpg.connect(self.migrate_dsn)
        try:
            return str(await connection.fetchval("show server_version"))
        finally:
            await connection.close()

    def _valkey_version(self) -> str | None:
        if self.valkey is not None:
            return self.valkey.program.version
        return OF_THE_OPERATOR if self.has_valkey else None


def title_of(unit: Unit) -> str:
    """How an embedded server is called on the screen, with its version: ``PostgreSQL 18.6``."""
    match unit:
        case PostgresServer():
            return f"PostgreSQL {unit.programs.version}"
        case NatsServer():
            return f"NATS {unit.version}"
        case ValkeyServer():
            return f"{unit.program.flavour.capitalize()} {unit.program.version}"
        case _:
            return unit.name


def _is_set(variable: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(variable) or environ.get(variable + FILE))


def _postgres(home: Home, ports: PortChoice, environ: Mapping[str, str]) -> PostgresServer:
    named = environ.get("TOLLWIRE_POSTGRES_BIN")
    return PostgresServer(
        home.postgres,
        port=ports.port_of("postgresql"),
        programs_folder=Path(named).absolute() if named else None,
        log=home.log_of("postgresql"),
    )


def _nats(home: Home, ports: PortChoice, environ: Mapping[str, str]) -> NatsServer:
    store_bytes = environ.get("TOLLWIRE_NATS_STORE_BYTES", "").strip()
    return NatsServer(
        home.nats,
        port=ports.port_of("nats"),
        monitor_port=ports.port_of("nats monitor"),
        log=home.log_of("nats"),
        # What is no number the services themselves refuse.
        store_bytes=int(store_bytes) if store_bytes.isdecimal() else 0,
    )


def _valkey(home: Home, ports: PortChoice) -> ValkeyServer | None:
    program = find_valkey()
    if program is None:
        return None
    return ValkeyServer(home.valkey, program=program, port=ports.port_of("valkey"), log=home.log_of("valkey"))
