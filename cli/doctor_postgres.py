"""PostgreSQL: that each role gets in and may do its work, the version, the schema, the server's settings."""

from collections.abc import Mapping
from typing import Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from cli.database import POSTGRES_DSN
from cli.doctor_carriers import check_carriers
from cli.doctor_findings import Finding, fault, note, ok, postgres_trouble, warning
from cli.doctor_place import Place
from cli.doctor_schema import check_partitions, check_schema
from shared.runtime.clock import SKEW_MAX_SECONDS, measure
from shared.runtime.postgres import SERVER_VERSION_MIN, Connection
from shared.runtime.postgres_dsn import split_dsn
from shared.runtime.postgres_hosts import connect

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
# Beyond it ids and times of this machine stand visibly out of order; NTP keeps machines within 10 ms.
SKEW_SEEN_SECONDS: Final = 1.0
# The alert's threshold (docs/operations.md).
CONNECTIONS_FULL: Final = 0.8
# A statement locks every partition that it may read, and many wait side by side when commits stand still.
LOCKS_MIN: Final = 256
# Who may read most is asked first: what is asked once is the same for every role.
ASKED_FIRST: Final = ("ledger", "api", "dlr", "worker")

# What each role must be able to call, whatever the version of the function.
CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("accept_batch", "cancel_batch", "return_leases"),
    "worker": ("claim_batch", "record_batch"),
    "dlr": ("receive_batch", "settle_batch", "load_callbacks", "record_callbacks"),
    "ledger": ("look_due", "dispatch_due", "expire_holds", "make_partitions"),
}
MAY_CALL: Final = """
    select array_agg(x.name order by x.name) from unnest($1::text[]) x(name)
    where not exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                      where n.nspname in ('tollwire', 'ledger') and p.proname ~ ('^' || x.name || '_v[0-9]+$')
                        and has_function_privilege(p.oid, 'execute'))
"""
ROLE: Final = """
    select current_user::text as name, r.rolsuper as is_super,
           coalesce(has_table_privilege(to_regclass('ledger.entries'), 'insert, update, delete'), false)
               as may_write_money,
           current_setting('statement_timeout') as statement_timeout
    from pg_roles r where r.rolname = current_user
"""
SERVER: Final = """
    select current_setting('server_version_num')::int as version_number,
           current_setting('server_version') as version, current_setting('fsync') as fsync,
           current_setting('synchronous_commit') as synchronous_commit,
           current_setting('full_page_writes') as full_page_writes,
           current_setting('autovacuum') as autovacuum,
           current_setting('max_locks_per_transaction')::int as locks,
           current_setting('synchronous_standby_names') as standbys,
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int as places,
           (select count(*) from pg_stat_activity where backend_type = 'client backend') as used
"""


async def check_postgres(place: Place) -> list[Finding]:
    """Connect as every service that is looked at; ask once what is the same for all."""
    findings: list[Finding] = []
    is_asked = False
    services = [service for service in ASKED_FIRST if service in place.environs]
    seen: dict[str, bool] = {}
    for service in services:
        dsn = place.accesses[service].dsn
        if not dsn or seen.get(dsn) is False:
            continue
        try:
            connection = await _connect(dsn)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the operator wants to know
            seen[dsn] = False
            text, what_to_do = postgres_trouble(error)
            start = place.starts(POSTGRES_DSN) if isinstance(error, ConnectionRefusedError) else ""
            findings.append(fault("postgresql", f"{_where(dsn)} {text}", start or what_to_do))
            continue
        try:
            seen[dsn] = True
            findings += [] if is_asked else await _check_server(connection, dsn)
            is_asked = True
            findings += await _check_role(connection, service)
        finally:
            await connection.close()
    return findings


async def _connect(dsn: str) -> Connection:
    connected: Connection = await connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=ANSWER_SECONDS,
        target_session_attrs=SessionAttribute.read_write,
        server_settings={"application_name": "tollwire-doctor"},
    )
    return connected


def _where(dsn: str) -> str:
    """Host, port and database; never the password."""
    parts = split_dsn(dsn)
    user = f"{parts.username} at " if parts.username else ""
    return f"{user}{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _check_server(connection: Connection, dsn: str) -> list[Finding]:
    row = await connection.fetchrow(SERVER)
    if row is None:
        return []
    findings = [_version(row, dsn), await _clock(connection), *_durability(row)]
    findings += [*_connections(row), _locks(row)]
    for check in (check_schema, check_partitions, check_carriers):
        findings += await check(connection)
    return findings


def _version(row: asyncpg.Record, dsn: str) -> Finding:
    if row["version_number"] < SERVER_VERSION_MIN:
        needed = SERVER_VERSION_MIN // 10_000
        return fault(
            "postgresql",
            f"{_where(dsn)} is PostgreSQL {row['version']}; Tollwire needs {needed} or newer",
            "Upgrade it: the roles' time-outs need transaction_timeout.",
        )
    return ok("postgresql", f"{row['version']} answers at {split_dsn(dsn).netloc.rpartition('@')[2]}")


async def _clock(connection: Connection) -> Finding:
    skew = -(await measure(connection)).offset_seconds
    text = f"this machine is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} the database"
    if abs(skew) > SKEW_MAX_SECONDS:
        return fault(
            "clock", f"{text}; services refuse to run", "Set the clock right, by NTP on both machines."
        )
    if abs(skew) > SKEW_SEEN_SECONDS:
        return warning("clock", text, "Let NTP set the clocks of both machines.")
    return ok("clock", text)


def _durability(row: asyncpg.Record) -> list[Finding]:
    findings = [
        fault(
            "durability",
            f"{name} is off: what was accepted can be lost in a crash",
            f"Set {name} = on in postgresql.conf.",
        )
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if row[name] == "off"
    ]
    if row["autovacuum"] == "off":
        findings.append(
            warning("durability", "autovacuum is off: tables grow and slow down", "Set autovacuum = on.")
        )
    if not row["standbys"]:
        findings.append(
            note(
                "durability",
                "synchronous_standby_names is empty: a failover may lose the last commits",
                "On one server that is right; on a cluster name a synchronous standby (docs/guarantees.md).",
            )
        )
    return findings or [ok("durability", "commits are durable, here and on a standby")]


def _connections(row: asyncpg.Record) -> list[Finding]:
    text = f"{row['used']} of {row['places']} connections are in use"
    if row["used"] > row["places"] * CONNECTIONS_FULL:
        what_to_do = "Raise max_connections, lower TOLLWIRE_POSTGRES_POOL_MAX, or put a pooler between."
        return [warning("connections", text, what_to_do)]
    return [ok("connections", text)]


def _locks(row: asyncpg.Record) -> Finding:
    if row["locks"] < LOCKS_MIN:
        return warning(
            "locks",
            f"max_locks_per_transaction is {row['locks']}: in a stall under load no lock may be left",
            f"Set max_locks_per_transaction = {LOCKS_MIN} in postgresql.conf and restart PostgreSQL.",
        )
    return ok("locks", f"max_locks_per_transaction is {row['locks']}")


async def _check_role(connection: Connection, service: str) -> list[Finding]:
    row = await connection.fetchrow(ROLE)
    if row is None:
        return []
    check, name = f"role {service}", row["name"]
    missing = await connection.fetchval(MAY_CALL, list(CALLS[service]))
    if missing:
        return [
            fault(
                check,
                f"{name} may not call {', '.join(missing)}",
                f"Run `tollwire migrate`, and let {service} log in as tollwire_{service}.",
            )
        ]
    if row["is_super"] or row["may_write_money"]:
        return [
            warning(
                check,
                f"{name} may change the books past the functions that guard them",
                f"Let {service} log in as tollwire_{service}, in a DSN of its own.",
            )
        ]
    if row["statement_timeout"] == "0":
        return [
            warning(
                check,
                f"{name} has no statement_timeout: one slow statement can hold everybody's accounts",
                f"alter role {name} set statement_timeout = '5s'; or use the roles of the migrations.",
            )
        ]
    return [ok(check, f"{name} may do its work and no more")]
