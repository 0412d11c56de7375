"""Fixtures for every test."""

from tests.support.servers import (
    database,
    make_database,
    nats_process,
    nats_server,
    postgres,
    servers_folder,
    template,
    valkey_process,
    valkey_server,
)

__all__ = [
    "database",
    "make_database",
    "nats_process",
    "nats_server",
    "postgres",
    "servers_folder",
    "template",
    "valkey_process",
    "valkey_server",
]
