"""The frame of the commands that go past the API to the database: options, connection, exit code."""

import asyncio
import functools
import getpass
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import click
import structlog

from cli.database import address_of, database_dsn, what_starts
from cli.doctor_findings import postgres_trouble
from cli.failures import Exit, Failure, Unreachable, of_this_machine
from cli.output import Output
from cli.words import not_empty, refuse_undecodable
from shared.runtime.postgres import OutcomeUnknown, open_pool
from shared.runtime.postgres_faults import login_fault
from shared.runtime.postgres_hosts import connect
from shared.runtime.settings import SettingsError
from shared.storage.audit import Actor

# One works, one reads beside it.
CONNECTIONS_MAX: Final = 2
# The ledger role's statements end after 5 s; those of another role, by --dsn, may take as long as a report.
ANSWER_SECONDS: Final = 60.0

Work = Callable[..., Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class _Settings:
    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = CONNECTIONS_MAX


def actor() -> Actor:
    """Who the audit trail names: the account that runs the command, by its number where it has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        name = f"uid/{os.getuid()}"
    return Actor(f"cli/{name}")


def database_command(work: Work, *, starts: str = "up") -> Callable[..., None]:
    """Make a click callback of ``async def work(pool, output, …options)``; the pool is the ledger role's.

    Adds --dsn and --json. What ``work`` returns is the exit code (None: 0). ``starts`` is the command that
    is named where nothing runs in the home.
    """

    @click.option(
        "--dsn",
        callback=not_empty,
        help="The database, as the ledger role. Else TOLLWIRE_LEDGER_POSTGRES_DSN, TOLLWIRE_POSTGRES_DSN, "
        "or the instance's.",
    )
    @click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document.")
    @functools.wraps(work)
    def run(*, dsn: str | None, as_json: bool, **options: Any) -> None:
        async def connected() -> int | None:
            refuse_undecodable({**options, "dsn": dsn})
            settings = _Settings(address_of(dsn or database_dsn("ledger")))
            # The pool waits a minute for a server that is down; who types a command is told at once.
            await (await connect(settings.postgres_dsn)).close()
            async with open_pool(
                settings, application_name="tollwire", answer_seconds=ANSWER_SECONDS
            ) as pool:
                return await work(pool, Output(as_json=as_json), **options)

        sys.exit(run_to_exit(connected, as_json=as_json, cure=lambda: what_starts(dsn, "ledger", starts)))

    return run


def _why(error: OSError | OutcomeUnknown) -> str:
    return str(error) if isinstance(error, OutcomeUnknown) else f"It {postgres_trouble(error)[0]}."


def run_to_exit(
    work: Callable[[], Awaitable[int | None]], *, as_json: bool, cure: Callable[[], str] = str
) -> int:
    """Run a command's work and return its exit code; a failure is shown as text or JSON.

    ``cure`` is asked what helps where the database does not answer.
    """

    async def told() -> int | None:
        try:
            return await work()
        except SettingsError as error:
            raise Failure("The settings are wrong.", detail=str(error), exit_code=Exit.USAGE) from error
        except (OutcomeUnknown, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise of_this_machine(error) from error  # a file; what the network says names none
            raise Unreachable(
                "The database does not answer.", detail=_why(error), hint=login_fault(error) or cure()
            ) from error
        except asyncpg.ClientConfigurationError as error:
            raise Failure("The DSN is not right.", detail=str(error), exit_code=Exit.USAGE) from error
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise Failure(
                "The database refuses the login.", detail=str(error), exit_code=Exit.UNAUTHORIZED
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            hint = "The command needs the role tollwire_ledger: see --dsn."
            raise Failure(
                "This role may not do that.", detail=str(error), hint=hint, exit_code=Exit.UNAUTHORIZED
            ) from error

    # A command says itself what it did: log lines would end up among its results.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(told()) or Exit.DONE
    except Failure as failure:
        failure.show(as_json=as_json)
        return failure.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
