"""`tollwire keyring` without a database."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.doctor_findings import Level
from cli.doctor_machine import check_processes
from cli.doctor_place import find_place
from cli.failures import Exit
from cli.home import Home, ProcessState, State
from cli.keyring import keyring
from shared.runtime.keyring import Keyring
from tests.support.accounts import IS_ROOT, NEEDS_ROOT, give_away

ROTATE = keyring.commands["rotate"]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home in which a server and three services run, by what it says about itself."""
    home = Home(tmp_path / "home")
    home.make()
    monkeypatch.setenv("TOLLWIRE_HOME", str(home.path))
    monkeypatch.delenv("TOLLWIRE_KEYRING_FILE", raising=False)
    Keyring.generate(home.keyring)
    ports = {"nats": None, "simulator": 1, "api": 2, "worker": 3}
    processes = [
        ProcessState(name=name, pid=None, port=None, health_port=port, restarts=0, state="running")
        for name, port in ports.items()
    ]
    home.write_state(State(phase="running", processes=processes))
    for name in ports:
        (home.run / name).mkdir()
        (home.run / name / f"{name}.pid").touch()
    with home.lock:
        yield home


def start(home: Home, name: str, *, after: int) -> None:
    """Make a process one that was started so many seconds after the keyring was written."""
    at = home.keyring.stat().st_mtime_ns + after * 1_000_000_000
    os.utime(home.run / name / f"{name}.pid", ns=(at, at))


def finish() -> Result:
    return CliRunner().invoke(ROTATE, ["--finish"])


def warnings(home: Home) -> list[str]:
    """What doctor warns of in its look at the processes."""
    found = asyncio.run(check_processes(find_place({"TOLLWIRE_HOME": str(home.path)}, ())))
    return [one.text for one in found if one.level is Level.WARNING]


def test_no_key_becomes_active_that_a_running_service_does_not_know(running: Home):
    assert CliRunner().invoke(ROTATE).exit_code == Exit.DONE
    for name in ("nats", "simulator", "api", "worker"):
        start(running, name, after=-1)
    waiting = running.keyring.read_bytes()
    refused = finish()
    assert (refused.exit_code, running.keyring.read_bytes()) == (Exit.FAILED, waiting)
    assert "Started before it was: api, worker." in refused.output
    assert warnings(running) == ["api, worker: started before the keyring was written last"]

    start(running, "api", after=1)
    assert "Started before it was: worker." in finish().output
    start(running, "worker", after=1)
    assert warnings(running) == []
    assert finish().exit_code == Exit.DONE
    assert Keyring.load(running.keyring).active == Keyring.load(running.keyring).key_ids[-1]


@pytest.mark.skipif(not IS_ROOT, reason=NEEDS_ROOT)
def test_root_rotates_the_keyring_of_another_account_and_leaves_it_to_it(tmp_path: Path):
    file = tmp_path / "keyring.json"
    Keyring.generate(file)
    give_away(file)
    owner = (file.stat().st_uid, file.stat().st_gid)
    assert CliRunner().invoke(ROTATE, ["--keyring", str(file)]).exit_code == Exit.DONE
    assert len(Keyring.load(file).key_ids) == 2
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (*owner, 0o600)


@pytest.mark.parametrize("action", ["create", "rotate"])
def test_a_file_that_cannot_be_written_is_no_database_that_does_not_answer(tmp_path: Path, action):
    file = tmp_path / "none" / "keyring.json" if action == "create" else tmp_path / "keyring.json"
    if action == "rotate":
        Keyring.generate(file)
        (tmp_path / "keyring.json.new").mkdir()  # stands where it is written first
    words = [str(file)] if action == "create" else ["--keyring", str(file)]
    done = CliRunner().invoke(keyring.commands[action], words)
    assert done.exit_code == Exit.FAILED
    assert "This machine did not let it go on." in done.output
    assert f"{file}: " in done.output
