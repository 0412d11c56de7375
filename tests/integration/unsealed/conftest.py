"""What the tests of the proof before a seal begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger import verify_online
from shared.runtime.keyring import Keyring
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as flow:
        yield flow


@pytest.fixture
def small_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_online, "ENTRIES_A_BITE", 3)
    monkeypatch.setattr(verify_online, "ACCOUNTS_A_BITE", 2)
    monkeypatch.setattr(verify_online, "MESSAGES_A_BITE", 2)
