"""A database with messages on their way, and the ledger process's pool on it."""

from collections.abc import AsyncIterator

import pytest

from shared.runtime.postgres import Pool
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as opened:
        yield opened


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """As the ledger process: with its role's rights and no others."""
    async with open_flow(database, "ledger") as opened:
        yield opened.pool
