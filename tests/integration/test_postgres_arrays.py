"""What asyncpg is told to ask of an array's elements."""

from collections import deque
from collections.abc import Collection
from typing import Any

import asyncpg
import pytest
from asyncpg.protocol import protocol

from shared.runtime.postgres_arrays import CONTAINERS, NAMES, ask_types
from tests.support.servers import Database


@pytest.fixture(autouse=True)
def _asked() -> None:
    ask_types()


def test_asyncpg_still_has_the_names() -> None:
    assert [getattr(protocol, name) for name in NAMES] == [CONTAINERS, CONTAINERS]


@pytest.mark.parametrize(
    "array",
    [[3, 1], (3, 1), {3: "", 1: ""}.keys(), {"a": 3, "b": 1}.values(), deque([3, 1]), frozenset({1}), {2}],
    ids=lambda array: type(array).__name__,
)
async def test_an_array_comes_as_what_it_is(database: Database, array: Collection[int]) -> None:
    connection = await asyncpg.connect(database.dsn())
    try:
        assert await connection.fetchval("select $1::bigint[]", array) == list(array)
        assert await connection.fetchval("select $1::bigint[]", [list(array)] * 2) == [list(array)] * 2
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("text", ["ab", "", None]),
        ("bytea", [b"ab", b"", None]),
        ("bigint", []),
        ("boolean", [True, None]),
        ("double precision", [[1.5], [2.5]]),
    ],
)
async def test_elements_are_no_arrays(database: Database, kind: str, array: list[Any]) -> None:
    connection = await asyncpg.connect(database.dsn())
    try:
        assert await connection.fetchval(f"select $1::{kind}[]", array) == array
    finally:
        await connection.close()


@pytest.mark.parametrize("no_array", ["text", b"bytes", 1, {"a": 1}, None.__class__])
async def test_what_is_no_array_is_refused(database: Database, no_array: object) -> None:
    connection = await asyncpg.connect(database.dsn())
    try:
        with pytest.raises(asyncpg.DataError, match="sized iterable container expected"):
            await connection.fetchval("select $1::text[]", no_array)
    finally:
        await connection.close()
