"""Stored history for an instance, by bench.fill in a process of its own."""

import asyncio
import sys
from typing import Final

from bench.command import ROOT
from bench.instance import Instance
from cli.database import DATABASE

# A million messages take a minute or two.
LIMIT_SECONDS: Final = 3_600.0


async def store(made: Instance, *options: object) -> None:
    """Fill the instance's database; ``options`` are those of `python -m bench.fill`.

    Raises:
        RuntimeError: it failed.
    """
    postgres = made.servers.postgres
    if postgres is None:
        raise RuntimeError("the bench runs its own PostgreSQL")
    dsn, keyring = postgres.dsn(database=DATABASE), str(made.home.keyring)
    words = ["--dsn", dsn, "--keyring", keyring, *map(str, options)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.fill", *words, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"bench.fill failed: {said.decode().strip()}")
    # What it wrote is not to be paid for by what is measured next.
    await made.value("vacuum analyze")
    await made.value("checkpoint")
