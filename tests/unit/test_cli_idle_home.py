"""Commands on the database of a home in which nothing runs: they say what starts it."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.doctor_nats import check_nats
from cli.doctor_place import find_place
from cli.doctor_postgres import check_postgres
from cli.doctor_valkey import check_valkey
from cli.home import Home
from cli.keyring import keyring
from cli.ledger import ledger
from cli.recover import recover
from embedded.ports import free_port
from shared.runtime.keyring import Keyring

COMMANDS = {
    "keyring status": (keyring.commands["status"], [], 3, "up"),
    "ledger verify": (ledger.commands["verify"], [], 2, "up"),
    # Services would send what the command has to decide.
    "recover": (recover, ["--restored-to", "2026-11-21"], 3, "up --servers-only"),
}
SETTINGS = ("POSTGRES_DSN", "LEDGER_POSTGRES_DSN", "NATS_URL", "VALKEY_URL", "KEYRING_FILE")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that ran once."""
    made = Home(tmp_path / "home")
    made.make()
    # Where root has none yet, a home's PostgreSQL gets a folder outside of it, which nobody would remove.
    made.postgres.mkdir()
    made.write_ports({name: free_port() for name in ("postgresql", "nats", "nats monitor", "valkey")})
    Keyring.generate(made.keyring)
    for name in SETTINGS:
        monkeypatch.delenv(f"TOLLWIRE_{name}", raising=False)
    monkeypatch.setenv("TOLLWIRE_HOME", str(made.path))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_the_database_says_what_starts_it(home, name):
    command, words, exit_code, starts = COMMANDS[name]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == exit_code
    assert "Nothing runs in home; `" in done.output
    assert f" {starts}` starts it." in done.output
    with home.lock:
        assert "Nothing runs" not in CliRunner().invoke(command, words).output
    away = [*words, "--dsn", f"postgresql://nobody@127.0.0.1:{free_port()}/tollwire"]
    assert "Nothing runs" not in CliRunner().invoke(command, away).output


@pytest.mark.parametrize("check", [check_postgres, check_nats, check_valkey])
def test_doctor_says_what_starts_a_server_of_the_home_and_of_no_other(home, check):
    told = {"TOLLWIRE_HOME": str(home.path)}
    (idle,) = (one for one in asyncio.run(check(find_place(told, ["api"]))) if one.what_to_do)
    assert idle.what_to_do.startswith("Nothing runs in home; `")
    others = {
        "TOLLWIRE_POSTGRES_DSN": f"postgresql://nobody@127.0.0.1:{free_port()}/tollwire",
        "TOLLWIRE_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "TOLLWIRE_VALKEY_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    (other,) = (one for one in asyncio.run(check(find_place(told | others, ["api"]))) if one.what_to_do)
    assert other.what_to_do.startswith("Start it")
