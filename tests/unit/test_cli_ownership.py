"""A home of one account and commands of another: whose it is and what helps, and no file that locks out."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.doctor import doctor
from cli.down import down
from cli.home import Home, State
from cli.keyring import keyring
from cli.ledger import ledger
from cli.own_keyring import _found
from cli.up import up
from embedded.files import FolderLock
from shared.runtime.keyring import Keyring
from tests.support.accounts import IS_ROOT, NEEDS_ROOT, another_account, give_away

for_root = pytest.mark.skipif(not IS_ROOT, reason=NEEDS_ROOT)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home that ran once, at a place that every account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-home-"))
    folder.chmod(0o755)
    made = Home(folder / "home")
    made.make()
    made.lock.take()
    made.lock.release()
    made.write_state(State(phase="stopped"))
    made.write_ports({"postgresql": 1})
    for name in ("TOLLWIRE_POSTGRES_DSN", "TOLLWIRE_LEDGER_POSTGRES_DSN", "TOLLWIRE_KEYRING_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOLLWIRE_HOME", str(made.path))
    yield made
    shutil.rmtree(folder)


@for_root
def test_root_writes_nothing_into_a_home_of_another_account_and_leaves_its_mode(home):
    home.path.chmod(0o700)
    give_away(home.path)
    with pytest.raises(click.ClickException) as caught:
        home.make()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert caught.value.message.startswith(
        f"{home.path} belongs to nobody, who could not read what root writes there. Run this command as"
    )


@for_root
def test_root_goes_on_in_a_home_that_it_made_in_a_folder_of_another_account(home):
    """As in a container: the folder that is mounted is its user's, all that is in it root's."""
    shutil.chown(home.path, "nobody")
    home.make()
    assert home.is_made


@for_root
@pytest.mark.parametrize("use", [Home.make, Home.read_state, Home.read_ports, lambda home: home.is_running])
def test_who_may_not_use_a_home_is_told_whose_it_is(home, use: Callable[[Home], object]):
    home.path.chmod(0o700)
    with another_account(), pytest.raises(click.ClickException) as caught:
        use(home)
    assert caught.value.message.startswith(f"{home.path} belongs to root. Run this command as root, or name")


@for_root
@pytest.mark.parametrize("words", [[], ["--clean"]])
def test_down_does_not_say_that_nothing_runs_where_it_may_not_look(home, words, monkeypatch):
    home.path.chmod(0o700)
    for name in ("exists", "is_dir", "is_file"):  # as of Python 3.14
        monkeypatch.setattr(Path, name, getattr(os.path, name.replace("is_", "is")))
    with home.lock, another_account():
        done = CliRunner().invoke(down, words)
    assert (done.exit_code, "Nothing runs" in done.output) == (1, False)
    assert f"{home.path} belongs to root. Run this command as root" in done.output


@for_root
def test_a_keyring_that_may_not_be_looked_at_is_not_said_to_be_lost(home, monkeypatch):
    home.path.chmod(0o700)
    Keyring.generate(home.keyring)
    monkeypatch.setattr(Path, "exists", os.path.exists)  # as of Python 3.14
    with another_account(), pytest.raises(PermissionError):
        _found(home.keyring)


@for_root
@pytest.mark.parametrize("name", ["state.json", "ports.json"])
def test_the_file_that_root_left_in_ones_own_home_is_named_with_what_gives_it_back(home, name):
    give_away(home.path)
    shutil.chown(home.path / name, "root")
    use = {"state.json": home.read_state, "ports.json": home.read_ports}[name]
    with another_account(), pytest.raises(click.ClickException) as caught:
        use()
    assert caught.value.message == (
        f"{home.path / name} belongs to root, in a folder of nobody: "
        f"`sudo chown -R nobody {home.path}` gives it back."
    )


@for_root
@pytest.mark.parametrize("command", [up, down])
def test_a_lock_of_another_account_is_a_sentence(home, command):
    give_away(home.path)
    shutil.chown(home.lock.path, "root")
    with another_account():
        done = CliRunner().invoke(command)
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True), done.exception
    assert f"{home.lock.path} belongs to root, in a folder of nobody" in done.output


def test_a_folder_closed_to_its_own_account_is_not_said_to_be_anothers(home):
    if IS_ROOT:
        give_away(home.path)
    home.path.chmod(0o000)
    try:
        if IS_ROOT:
            with another_account(), pytest.raises(click.ClickException) as caught:
                home.read_state()
        else:
            with pytest.raises(click.ClickException) as caught:
                home.read_state()
    finally:
        home.path.chmod(0o700)
    assert "whose it is (mode 0): Permission denied." in caught.value.message


def test_to_look_at_a_home_makes_no_lock_in_it(home):
    """Root looks too, and its lock would be one that the owner cannot open."""
    home.lock.path.unlink()
    assert not home.is_running
    assert not home.lock.path.exists()
    with FolderLock(home.path):
        assert home.is_running


@for_root
def test_a_password_that_root_left_is_no_database_that_does_not_answer(home):
    CliRunner().invoke(keyring.commands["status"])
    secret = home.postgres / "tollwire_ledger.secret"
    Keyring.generate(home.keyring)
    give_away(home.path)
    shutil.chown(secret, "root")
    with another_account():
        done = CliRunner().invoke(keyring.commands["status"])
    assert (done.exit_code, f"{secret} belongs to root, in a folder of nobody" in done.output) == (1, True)


@for_root
@pytest.mark.parametrize(
    ("command", "exit_code"), [(doctor, 1), (keyring.commands["status"], 1), (ledger.commands["verify"], 2)]
)
def test_commands_on_a_home_that_they_may_not_read_end_with_a_sentence(home, command, exit_code):
    home.path.chmod(0o700)
    with another_account():
        done = CliRunner().invoke(command)
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (exit_code, True), done.exception
    assert f"{home.path} belongs to root. Run this command as root" in done.output
    assert "does not answer" not in done.output
