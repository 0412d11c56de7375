"""`tollwire listen`: a receiver on this machine that verifies callbacks and prints them."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from aiohttp import web

from cli.api_client import Api
from cli.api_command import stopped_by_this_machine
from cli.callback_lines import json_line, people_line
from cli.callback_receiver import Received, Receiver
from cli.callback_setup import point_here
from cli.failures import Failure, Unreachable
from cli.home import Home
from cli.target import KeyFile, find_target
from shared.domain.signatures import SecretFormatError, parse_secret

HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8088
# Requests under way are answered before the end; they take milliseconds.
STOP_SECONDS: Final = 2.0


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any."
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="whsec_…",
    help="Believe this secret, and leave the client's endpoint as it is. May be given twice.",
)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Else TOLLWIRE_HOME.")
@click.option(
    "--status",
    type=click.IntRange(200, 599),
    default=200,
    show_default=True,
    help="What verified callbacks are answered; 500 shows retries.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many verified callbacks.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, for programs.")
def listen(
    *, port: int, secrets: Sequence[str], home: Path | None, status: int, count: int | None, as_json: bool
) -> None:
    """Receive callbacks here, verify them, print a line for each.

    Without --secret the demo client's callbacks are pointed here, and their secret is kept in the home.

    Exit codes: 0 ended by Ctrl-C or --count, 1 the port is taken or the API refused, 2 used wrongly,
    3 no API answers, 4 the key may not.
    """
    environ = {**os.environ, "TOLLWIRE_HOME": str(home)} if home else dict(os.environ)
    try:
        keys = [parse_secret(text) for text in secrets]
        asyncio.run(Listen(environ, keys, status, count, as_json=as_json).run(port))
    except SecretFormatError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from None
    except Failure as failure:
        failure.show(as_json=as_json)
        sys.exit(failure.exit_code)
    except OSError as error:
        sys.exit(stopped_by_this_machine(error, as_json=as_json))


class Listen:
    """The receiver, from its start to Ctrl-C."""

    def __init__(
        self, environ: Mapping[str, str], keys: list[bytes], status: int, count: int | None, *, as_json: bool
    ) -> None:
        self._environ = environ
        self._as_json = as_json
        self._count = count
        self._stop = asyncio.Event()
        self._keys = keys
        self._unread: OSError | None = None
        self._receiver = Receiver(keys, status, self._tell)

    async def run(self, port: int) -> None:
        """Listen until a signal, or until as many callbacks as asked for have come.

        Raises:
            Failure: the port is taken, or the callbacks could not be pointed here.
            OSError: the output takes no more.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        runner = web.AppRunner(self._receiver.app(), access_log=None)
        await runner.setup()
        try:
            url = await self._open(runner, port)
            if not self._keys:
                self._keys.append(await self._point_here(url))
            self._say(f"Listening at {url}. Ctrl-C ends.")
            await self._stop.wait()
        finally:
            await runner.cleanup()
        if self._unread is not None:
            raise self._unread
        seen = self._receiver
        self._say(
            f"{seen.verified} verified, {seen.repeated} seen before, {seen.refused} with a bad signature."
        )

    async def _open(self, runner: web.AppRunner, port: int) -> str:
        site = web.TCPSite(runner, HOST, port, shutdown_timeout=STOP_SECONDS)
        try:
            await site.start()
        except OSError as error:
            hint = "--port names another; 0 takes any that is free."
            raise Failure(f"Port {port} is taken.", detail=error.strerror or "", hint=hint) from None
        _, bound_port = runner.addresses[0]
        return f"http://{HOST}:{bound_port}/"

    async def _point_here(self, url: str) -> bytes:
        try:
            target = find_target("", "", self._environ, KeyFile.DEMO)
        except Unreachable as failure:
            failure.hint = (
                "Start one with `tollwire up`, or give the --secret of the endpoint that calls here."
            )
            raise
        async with Api(target) as api:
            secret = await point_here(api, url, Home.of(self._environ).path)
        self._say("The client's callbacks come here now (GET /v1/callback shows it).")
        return parse_secret(secret)

    def _tell(self, received: Received) -> None:
        try:
            click.echo(json_line(received) if self._as_json else people_line(received))
        except OSError as error:
            self._unread = error
            self._stop.set()
            raise
        if self._count is not None and self._receiver.verified >= self._count:
            self._stop.set()

    def _say(self, text: str) -> None:
        click.echo(text, err=True)
