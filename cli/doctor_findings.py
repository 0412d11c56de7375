"""What `tollwire doctor` finds: one sentence a finding, and what to do about it."""

from enum import Enum
from typing import Final

import asyncpg
import msgspec

from cli.network_trouble import network_trouble
from shared.runtime.postgres_faults import login_fault


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    WARNING = "warning"
    """It works, and something should be set right before it does not."""
    FAULT = "fault"
    """Something does not work, or a promise of docs/guarantees.md does not hold."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sentence about one thing."""

    check: str
    level: Level
    text: str
    what_to_do: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `tollwire doctor --json` prints."""

    version: str
    place: str
    faults: int
    warnings: int
    findings: list[Finding]


def ok(check: str, text: str) -> Finding:
    """Something is as it must be."""
    return Finding(check=check, level=Level.OK, text=text)


def note(check: str, text: str, what_to_do: str = "") -> Finding:
    """Something that an operator should know."""
    return Finding(check=check, level=Level.NOTE, text=text, what_to_do=what_to_do)


def warning(check: str, text: str, what_to_do: str) -> Finding:
    """Something that should be set right."""
    return Finding(check=check, level=Level.WARNING, text=text, what_to_do=what_to_do)


def fault(check: str, text: str, what_to_do: str) -> Finding:
    """Something that does not work."""
    return Finding(check=check, level=Level.FAULT, text=text, what_to_do=what_to_do)


def report_of(version: str, place: str, findings: list[Finding]) -> Report:
    """Count what was found."""
    levels = [finding.level for finding in findings]
    return Report(
        version=version,
        place=place,
        faults=levels.count(Level.FAULT),
        warnings=levels.count(Level.WARNING),
        findings=findings,
    )


# Errors of a database connection that have a cause of their own, and what helps.
_POSTGRES: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (asyncpg.InvalidPasswordError, "refuses the password", "Set the role's password in the DSN."),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "does not let this role in",
        "Make the role by `tollwire migrate`, and let it in from here in pg_hba.conf.",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "has no such database",
        "Create it, or name the right one in the DSN; then run `tollwire migrate`.",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "has no connection left",
        "Raise max_connections, or lower TOLLWIRE_POSTGRES_POOL_MAX or the number of processes.",
    ),
    (
        asyncpg.CannotConnectNowError,
        "is starting up or shutting down",
        "Wait for it and look into its log. If it goes down and does not end, `pg_ctl stop -m fast` ends it.",
    ),
    (
        asyncpg.TargetServerAttributeNotMatched,
        "takes no writes",
        "Name the primary, or all hosts of the cluster, in the DSN.",
    ),
)


def postgres_trouble(error: Exception) -> tuple[str, str]:
    """Say in words why a database cannot be used, and what to do."""
    if what_to_do := login_fault(error) if not isinstance(error, asyncpg.PostgresError) else None:
        return f"cannot be used: {error}", what_to_do
    for kind, text, what_to_do in _POSTGRES:
        if isinstance(error, kind):
            return f"{text}: {error}", what_to_do
    text, what_to_do = network_trouble(error)
    return text, what_to_do or "Start it, or name another in TOLLWIRE_POSTGRES_DSN."
