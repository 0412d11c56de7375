"""`tollwire bootstrap`: what an installation on servers of your own begins with (a Job of the chart)."""

import asyncio
import os
from pathlib import Path
from typing import Final

import click
import nats.errors

from cli.bootstrap import BY, REASON, ensure_default_rates, ensure_simulated_carrier
from cli.database_command import run_to_exit
from cli.failures import Exit, Failure, Unreachable
from cli.output import Output
from cli.words import not_empty
from shared.domain.api_keys import ApiKey, InvalidApiKey, parse_api_key
from shared.runtime.jetstream import open_jetstream
from shared.runtime.keyring import Keyring, KeyringError
from shared.runtime.postgres import Connection, Pool, open_pool
from shared.runtime.server_settings import Common
from shared.runtime.settings import SettingsError, load
from shared.runtime.streams import STREAMS
from shared.storage import api_keys
from shared.storage.schema import wait_for_schema
from simulator.settings import Settings as SimulatorSettings

OPERATOR: Final = api_keys.NewKey(None, "operator", ["admin"])
WAIT_SECONDS: Final = 30.0


@click.command(epilog="Example: tollwire bootstrap --operator-key operator.key --default-rates")
@click.option(
    "--operator-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a key of `tollwire key generate`, which becomes an operator's.",
)
@click.option("--default-rates", is_flag=True, help="Begin with the price list of the demonstration.")
@click.option(
    "--simulator",
    metavar="URL",
    default="",
    callback=not_empty,
    help="Make the simulator there a carrier for all.",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(1),
    default=WAIT_SECONDS,
    show_default=True,
    help="Seconds to wait for the schema and NATS.",
)
@click.pass_context
def bootstrap(
    context: click.Context,
    operator_key: Path | None,
    default_rates: bool,
    simulator: str,
    wait_seconds: float,
) -> None:
    """Make what a new installation lacks; again does nothing.

    That is the streams and the first operator's key, and if asked for, prices and a carrier. It reads the
    settings of tollwire-api (TOLLWIRE_POSTGRES_DSN, TOLLWIRE_NATS_URL, TOLLWIRE_KEYRING_FILE and so on),
    and for --simulator TOLLWIRE_SIMULATOR_SECRET.
    """
    output = Output(as_json=False)

    async def work() -> None:
        settings = _settings()
        key = None if operator_key is None else _read_key(operator_key)
        try:
            async with (
                asyncio.timeout(wait_seconds),
                open_pool(settings, application_name="tollwire-bootstrap") as pool,
            ):
                await wait_for_schema(pool)
                await _fill(pool, output, key, wants_rates=default_rates)
                if simulator:
                    await _simulate(pool, settings, simulator)
                    output.line(f"The simulator at {simulator} is a carrier.")
                await _make_streams(settings)
                output.line(f"The streams are there: {', '.join(stream.name for stream in STREAMS)}.")
        except TimeoutError:
            raise Unreachable(f"Not everything was there within {wait_seconds:g} s.") from None

    context.exit(run_to_exit(work, as_json=False))


def _settings() -> Common:
    try:
        return load(Common, os.environ)
    except SettingsError as error:
        raise Failure("Settings are wrong.", detail=str(error), exit_code=Exit.USAGE) from error


async def _fill(pool: Pool, output: Output, operator_key: ApiKey | None, *, wants_rates: bool) -> None:
    async with pool.acquire() as connection:
        if operator_key is not None:
            output.line(await _ensure_operator(connection, operator_key))
        if wants_rates:
            await ensure_default_rates(connection)
            output.line("There is a price list.")


def _read_key(file: Path) -> ApiKey:
    try:
        return parse_api_key(file.read_text(encoding="utf-8").strip())
    except (InvalidApiKey, UnicodeDecodeError) as error:
        raise Failure(
            f"{file} holds no key.",
            detail=str(error),
            hint="`tollwire key generate` prints one.",
            exit_code=Exit.USAGE,
        ) from error


async def _ensure_operator(connection: Connection, key: ApiKey) -> str:
    """Make the key an operator's, and say how that went. One that was revoked stays revoked."""
    try:
        listing = await api_keys.key_listing(connection, key.key_id)
    except api_keys.NoSuchKey:
        await api_keys.create_key(connection, key, OPERATOR, BY, REASON)
        return f"The operator's key {key.key_id} is made."
    state = "was revoked, and stays so" if listing.revoked_at else "is there already"
    return f"The operator's key {key.key_id} {state}."


async def _simulate(pool: Pool, settings: Common, url: str) -> None:
    secret = load(SimulatorSettings, os.environ).simulator_secret
    try:
        keyring = Keyring.load(settings.keyring_file)
    except KeyringError as error:
        raise Failure("The keyring cannot be used.", detail=str(error), exit_code=Exit.USAGE) from error
    async with pool.acquire() as connection:
        await ensure_simulated_carrier(connection, keyring, url, secret)


async def _make_streams(settings: Common) -> None:
    async with open_jetstream(settings, name="tollwire-bootstrap") as jetstream:
        while True:
            try:
                await jetstream.wait_connected(WAIT_SECONDS)
                await jetstream.ensure_streams()
            except (nats.errors.Error, OSError):
                await asyncio.sleep(1.0)
            else:
                return
