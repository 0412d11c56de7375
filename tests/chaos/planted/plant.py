"""A fault that is planted on purpose: a change to the text of a function, here or in a scratch database."""

import importlib
import inspect
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from shared.runtime.postgres import Pool

ORACLE = "tests.chaos.simulation.oracle"


class Plant(NamedTuple):
    """A fault.

    Attributes:
        name: what is wrong, in a few words.
        where: the server's function (``tollwire.claim_batch_v1``), or the oracle's (``sending:_refusal``).
        changes: pairs of text and what stands in its place; each must be there.
        seeds: it is found within so many.
    """

    name: str
    where: str
    changes: tuple[tuple[str, str], ...]
    seeds: int


class TextIsGoneError(Exception):
    """The function does not say any more what the plant changes: write the plant anew."""


def changed(plant: Plant, text: str) -> str:
    """The function's text with the fault in it."""
    for old, new in plant.changes:
        if old not in text:
            raise TextIsGoneError(f"{plant.name}: {plant.where} does not say {old!r}")
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def planted_in_sql(pool: Pool, plant: Plant) -> AsyncIterator[None]:
    """The database has the fault for as long as this is open."""
    schema, name = plant.where.split(".")
    sql = (
        "select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname = $1 and p.proname = $2"
    )
    sound = str(await pool.fetchval(sql, schema, name))
    await pool.execute(changed(plant, sound))
    try:
        yield
    finally:
        await pool.execute(sound)


@contextmanager
def planted_in_oracle(plant: Plant) -> Iterator[None]:
    """The oracle has the fault for as long as this is open."""
    module_name, path = plant.where.split(":")
    module = importlib.import_module(f"{ORACLE}.{module_name}")
    owner, name = _owner(module, path)
    sound = getattr(owner, name)
    faulty: dict[str, Any] = {}
    exec(changed(plant, textwrap.dedent(inspect.getsource(sound))), vars(module).copy(), faulty)
    holders = [owner, *(m for m in list(sys.modules.values()) if _has(m, name, sound))]
    for holder in holders:
        setattr(holder, name, faulty[name])
    try:
        yield
    finally:
        for holder in holders:
            setattr(holder, name, sound)


def _owner(module: Any, path: str) -> tuple[Any, str]:
    *names, last = path.split(".")
    for name in names:
        module = getattr(module, name)
    return module, last


def _has(module: Any, name: str, function: object) -> bool:
    return getattr(module, "__name__", "").startswith(ORACLE) and vars(module).get(name) is function
