"""Which database a command asks that goes past the API: the one that is set, or that of TOLLWIRE_HOME."""

import os

import click

from cli.home import Home
from cli.servers import DATABASE
from embedded.postgres import PostgresServer


class NoDatabase(click.ClickException):
    """Nothing says where the database is."""

    exit_code = 3

    def __init__(self, home: Home) -> None:
        super().__init__(
            f"there is no instance in {home.path}. Start one with `tollwire up`, name its folder with "
            "TOLLWIRE_HOME, or name a database with --dsn or TOLLWIRE_POSTGRES_DSN."
        )


def database_dsn(role: str) -> str:
    """Return the DSN of a role (``ledger``, ``api``, ``readonly``).

    Raises:
        NoDatabase: none is set, and the home has no embedded PostgreSQL.
    """
    if named := os.environ.get("TOLLWIRE_POSTGRES_DSN"):
        return named
    home = Home.of(os.environ)
    port = home.read_ports().get("postgresql")
    if port is None:
        raise NoDatabase(home)
    return PostgresServer(home.postgres, port=port).dsn(user=f"tollwire_{role}", database=DATABASE)
