"""No process serves by a clock that is far off the database's (RULES 30)."""

from pathlib import Path

import pytest

from api.service import api
from dlr.service import dlr
from embedded.nats import NatsServer
from embedded.ports import free_port
from ledger.service import ledger
from shared.runtime.clock import SKEW_MAX_SECONDS, ClockSkew, keep_clock
from shared.runtime.keyring import Keyring
from shared.runtime.loops import OpenService
from tests.support.api_rig import NO_NATS
from tests.support.servers import Database
from worker.service import worker


def is_set(
    monkeypatch: pytest.MonkeyPatch, database: Database, role: str, folder: Path, nats_url: str
) -> None:
    """The settings of a process."""
    Keyring.generate(folder / "keyring.json")
    monkeypatch.setenv("TOLLWIRE_KEYRING_FILE", str(folder / "keyring.json"))
    monkeypatch.setenv("TOLLWIRE_POSTGRES_DSN", database.dsn(role))
    monkeypatch.setenv("TOLLWIRE_NATS_URL", nats_url)


@pytest.mark.parametrize("open_service", [api, worker, dlr, ledger])
async def test_a_process_refuses_to_begin_by_a_clock_that_is_far_off(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_service: OpenService
) -> None:
    is_set(monkeypatch, database, open_service.__name__, tmp_path, NO_NATS)
    behind = f"select clock_timestamp() + interval '{SKEW_MAX_SECONDS + 60} seconds'"
    monkeypatch.setattr("shared.runtime.clock.READ_TIME", behind)
    with pytest.raises(ClockSkew):
        async with open_service():
            pass


async def test_the_ledger_process_looks_at_its_clock_while_it_runs(
    database: Database, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_set(monkeypatch, database, "ledger", tmp_path, nats_server.url)
    monkeypatch.setenv("TOLLWIRE_NATS_TOKEN", nats_server.token)
    monkeypatch.setenv("TOLLWIRE_HEALTH_PORT", str(free_port()))
    async with ledger() as loops:
        assert keep_clock in [getattr(loop, "func", None) for loop in loops]
