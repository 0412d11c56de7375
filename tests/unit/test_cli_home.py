import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.down import down
from cli.home import MARK, Home, ProcessState, State
from embedded.child import birth_of
from embedded.files import FolderLock


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_the_home_is_named_by_the_environment_and_absolute():
    assert Home.of({"TOLLWIRE_HOME": "/srv/x"}).path == Path("/srv/x")
    assert Home.of({}).path == Path.cwd() / ".tollwire"
    assert Home.of({"TOLLWIRE_HOME": "~/x"}).path == Path.home() / "x"


def test_nobody_else_can_list_a_home(home):
    assert stat.S_IMODE(home.path.stat().st_mode) & 0o066 == 0
    assert stat.S_IMODE(home.logs.stat().st_mode) == 0o700


def test_a_state_is_read_back_as_it_was_written(home):
    process = ProcessState(name="api", pid=7, port=8080, health_port=9, restarts=1, state="running")
    state = State(phase="running", api_url="http://127.0.0.1:8080", processes=[process])
    home.write_state(state)
    assert home.read_state() == state


def test_a_home_where_nothing_ran_has_no_state(home):
    assert home.read_state() is None
    assert home.read_ports() == {}
    assert home.supervisor_pid() is None


def test_it_runs_while_its_lock_is_held(home):
    assert not home.is_running
    with home.lock:
        assert home.is_running
    assert not home.is_running


def test_the_supervisor_is_known_by_pid_and_birth(home):
    home.write_state(State(supervisor_pid=os.getpid(), supervisor_birth=birth_of(os.getpid())))
    assert home.supervisor_pid() == os.getpid()
    home.write_state(State(supervisor_pid=os.getpid(), supervisor_birth="another boot:1"))
    assert home.supervisor_pid() is None


def test_removing_a_home_removes_all_and_twice_is_harmless(home):
    (home.postgres / "data").mkdir(parents=True)
    home.remove()
    home.remove()
    assert not home.path.exists()


def test_of_a_home_that_never_was_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(down, "--clean")
    assert done.exit_code == 0
    assert "There is nothing to remove." in done.output
    assert "Removed" not in done.output


def test_a_home_behind_a_link_is_removed_with_the_link(home, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(home.path)
    (home.postgres / "data").mkdir(parents=True)
    Home(link).remove()
    assert (home.path.exists(), link.is_symlink()) == (False, False)
    Home(link).make()  # the next instance finds nothing in its way


@pytest.mark.parametrize("reason", [errno.EBUSY, errno.EACCES])
def test_a_home_whose_folder_must_stay_is_emptied_and_can_be_used_again(home, monkeypatch, reason):
    """A mount point, or a folder in one of another account's."""
    (home.postgres / "data").mkdir(parents=True)
    monkeypatch.setenv("TOLLWIRE_HOME", str(home.path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refusing(home.path, reason))
        done = [CliRunner().invoke(down, "--clean") for _ in range(2)]
    assert [(one.exit_code, f"Emptied {home.path}" in one.output.replace("\n", "")) for one in done] == [
        (0, True)
    ] * 2
    assert list(home.path.iterdir()) == []
    home.make()
    assert home.is_made


def test_a_removal_that_was_broken_off_can_be_done_again(home, monkeypatch):
    broken = home.path / "nats"
    broken.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refusing(broken, errno.EIO))
        with pytest.raises(click.ClickException, match="cannot be removed"):
            home.remove()
    assert home.is_made
    home.remove()
    assert not home.path.exists()


@pytest.mark.parametrize("mounted", ["postgresql", "nats", "nats/store"])
def test_a_mount_point_in_a_home_is_emptied_and_keeps_nothing_else(home, monkeypatch, mounted):
    folder = home.path / mounted
    (folder / "data").mkdir(parents=True)
    for name in ("postgresql", "seals", "zeal"):
        (home.path / name).mkdir(exist_ok=True)
    (home.path / "keyring.json").touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refusing(folder, errno.EBUSY))
        for _ in range(2):
            home.remove()
            assert {found.name for found in home.path.iterdir()} == {mounted.split("/")[0], MARK, "lock"}
            assert list(folder.iterdir()) == []
    home.remove()
    assert not home.path.exists()


def test_a_home_that_somebody_uses_again_is_left_alone(home):
    (home.postgres / "data").mkdir(parents=True)
    with FolderLock(home.path), pytest.raises(click.ClickException, match="in use by another process"):
        home.remove()
    assert (home.postgres / "data").exists()
    home.remove()
    assert not home.path.exists()


def refusing(folder: Path, reason: int) -> Callable[..., None]:
    """An rmdir that does not remove this one."""
    rmdir = os.rmdir

    def refuse(path: str | Path, **options: Any) -> None:
        if Path(path).name == folder.name:
            raise OSError(reason, os.strerror(reason), str(path))
        rmdir(path, **options)

    return refuse


def test_a_folder_that_is_no_home_is_neither_used_nor_removed(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(click.ClickException, match="left alone"):
        Home(tmp_path).remove()
    with pytest.raises(click.ClickException, match="not empty"):
        Home(tmp_path).make()
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_in_the_place_of_a_home_is_named(home, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for path in (file, file / "home"):
        with pytest.raises(click.ClickException, match=r"notes\.txt cannot be used: it is a file"):
            Home(path).make()
    assert file.read_text() == "mine"
    home.logs.rmdir()
    home.logs.touch()
    with pytest.raises(click.ClickException, match="/logs cannot be used: it is a file"):
        home.make()


def test_to_look_whether_anything_runs_leaves_nothing_in_a_folder_that_is_not_ours(tmp_path):
    """A watchdog asks `status` before the first `up`, in the empty folder that the service's unit made."""
    assert not Home(tmp_path).is_running
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lock").touch()  # what such a look left in earlier versions
    Home(tmp_path).make()
    assert Home(tmp_path).is_made


def test_down_leaves_a_folder_alone_that_is_not_ours(tmp_path, monkeypatch):
    pid_file = tmp_path / "run" / "svc" / "svc.pid"
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text("123")
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path))
    done = CliRunner().invoke(down)
    assert (done.exit_code, pid_file.read_text()) == (0, "123")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(click.ClickException, match="cannot be used"):
        Home(tmp_path / "file" / "home").make()
