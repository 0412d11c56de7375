"""The frame of every command that talks to the API: its options, its connection, its exit code."""

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import click

from cli.api_client import Api
from cli.failures import Exit, Failure, Interrupted, of_this_machine
from cli.output import Output
from cli.target import KEY_VARIABLE, URL_VARIABLE, KeyFile, find_target
from cli.words import not_empty, refuse_undecodable

Work = Callable[..., Awaitable[int | None]]

_url_option = click.option(
    "--api-url",
    metavar="URL",
    default="",
    callback=not_empty,
    help=f"The API ({URL_VARIABLE}); else the one that runs in TOLLWIRE_HOME.",
)


def api_command(key_file: KeyFile | None) -> Callable[[Work], Callable[..., None]]:
    """Make a click callback of ``async def work(api, output, …options)``.

    Adds --api-url, --api-key and --json. What ``work`` returns is the exit code (None: 0). A failure is
    shown as text or JSON, Ctrl-C ends with 130.
    """

    def decorate(work: Work) -> Callable[..., None]:
        @_url_option
        @click.option(
            "--api-key",
            metavar="KEY",
            default="",
            callback=not_empty,
            help=f"The key ({KEY_VARIABLE}); else {_default_key(key_file)}.",
        )
        @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
        @functools.wraps(work)
        def run(*, api_url: str, api_key: str, as_json: bool, **options: Any) -> None:
            async def connected() -> int | None:
                refuse_undecodable({**options, "api_key": api_key, "api_url": api_url})
                target = find_target(api_url, api_key, os.environ, key_file)
                async with Api(target) as api:
                    return await work(api, Output(as_json=as_json), **options)

            try:
                code = asyncio.run(connected())
            except Failure as failure:
                failure.show(as_json=as_json)
                code = failure.exit_code
            except OSError as error:
                code = stopped_by_this_machine(error, as_json=as_json)
            except KeyboardInterrupt:
                Interrupted().show(as_json=as_json)
                code = Exit.INTERRUPTED
            sys.exit(code or Exit.DONE)

        return run

    return decorate


def stopped_by_this_machine(error: OSError, *, as_json: bool) -> Exit:
    """Show that a file or the output takes no more; whoever reads no further (a pipe's end) needs no word."""
    if isinstance(error, BrokenPipeError):
        raise error
    with suppress(OSError):
        of_this_machine(error).show(as_json=as_json)
    try:
        sys.stdout.flush()
    except OSError:  # what is left in it would be tried again at the very end, and be a second error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


def _default_key(key_file: KeyFile | None) -> str:
    return "none is needed" if key_file is None else f"{key_file.value} in TOLLWIRE_HOME"
