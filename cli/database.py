"""Which database a command asks that goes past the API: the one that is set, or that of TOLLWIRE_HOME."""

import os
from collections.abc import Mapping

import click

from cli.failures import Unreachable
from cli.home import Home
from cli.ownership import told_whose
from cli.screen import how_to_start
from embedded.postgres import PostgresServer
from shared.runtime.postgres_dsn import split_dsn
from shared.runtime.server_settings import PostgresAccess
from shared.runtime.settings import SettingsError, load, secret_text

DATABASE = "tollwire"
POSTGRES_DSN = "TOLLWIRE_POSTGRES_DSN"


class NoDatabase(Unreachable):
    """Nothing says where the database is."""

    def __init__(self, home: Home) -> None:
        super().__init__(
            f"There is no instance in {home.path}.",
            hint="Start one with `tollwire up`, name its folder with TOLLWIRE_HOME, or name a database with "
            "--dsn or TOLLWIRE_POSTGRES_DSN.",
        )


def secret(variable: str, environ: Mapping[str, str]) -> str:
    """Return what a secret setting holds, or its file; empty when neither is there.

    Raises:
        click.ClickException: the file cannot be read.
    """
    try:
        return secret_text(variable, environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def named_dsn(environ: Mapping[str, str], *variables: str) -> str:
    """Return the DSN of the first of these settings that is there, with password and TLS; else nothing.

    Raises:
        click.ClickException: a file that one of them names cannot be read, or TLS is set wrongly.
    """
    for variable in variables:
        if named := secret(variable, environ):
            try:
                return load(PostgresAccess, environ).complete(named)
            except SettingsError as error:
                raise click.ClickException(str(error)) from None
    return ""


def address_of(dsn: str) -> str:
    """Return a DSN that is an address at least; what it asks for is the driver's to judge.

    Raises:
        click.UsageError: it is none.
    """
    try:
        if split_dsn(dsn).scheme in {"postgres", "postgresql"}:
            return dsn
    except ValueError:  # brackets without an address
        pass
    raise click.UsageError(
        "the DSN is none: it looks like postgresql://tollwire_ledger@db.example.org/tollwire"
    )


def database_dsn(role: str) -> str:
    """Return the DSN of a role (``ledger``, ``api``, ``readonly``).

    TOLLWIRE_LEDGER_POSTGRES_DSN names the role's own, as for `tollwire up`; TOLLWIRE_POSTGRES_DSN is for all.

    Raises:
        NoDatabase: none is set, and the home has no embedded PostgreSQL.
        cli.ownership.NotOurs: the home, or the password in it, is another account's.
        click.ClickException: what is set is wrong.
    """
    if named := _set_dsn(role):
        return named
    home = Home.of(os.environ)
    port = home.read_ports().get("postgresql")
    if port is None:
        raise NoDatabase(home)
    with told_whose(home.path):
        return PostgresServer(home.postgres, port=port).dsn(user=f"tollwire_{role}", database=DATABASE)


def what_starts(dsn: str | None, role: str, command: str = "up") -> str:
    """What helps when the database does not answer that ``dsn``, else ``database_dsn``, names.

    Empty, unless it is the home's and nothing runs there; else it names the command that starts it.
    """
    home = Home.of(os.environ)
    return how_to_start(home, command) if is_of_home(dsn, role) and not home.is_running else ""


def is_of_home(dsn: str | None, role: str) -> bool:
    """Whether the database that ``dsn`` names, else ``database_dsn``, is that of TOLLWIRE_HOME."""
    return not dsn and not _set_dsn(role)


def _set_dsn(role: str) -> str:
    return named_dsn(os.environ, f"TOLLWIRE_{role.upper()}_POSTGRES_DSN", POSTGRES_DSN)
