"""A home whose `postgresql` is a link, as root's below /root, and its copies, which copy the link alone."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli.down import down
from cli.home import Home
from cli.keyring import keyring
from cli.leftovers import stop_leftovers
from cli.up import up
from embedded import accounts, linked_data
from embedded.child import Child
from embedded.linked_data import claim
from embedded.ports import free_port
from shared.runtime.keyring import Keyring

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(params=["of now", "of an earlier version"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that ran once, with its data elsewhere; earlier versions left no word there whose it is."""
    for name in ("POSTGRES_DSN", "LEDGER_POSTGRES_DSN", "MIGRATE_DSN", "KEYRING_FILE"):
        monkeypatch.delenv(f"TOLLWIRE_{name}", raising=False)
    made = Home(tmp_path / "home")
    made.make()
    Keyring.generate(made.keyring)
    made.write_ports({"postgresql": free_port()})
    data = tmp_path / "system" / "postgresql-0123456789abcdef"
    data.mkdir(parents=True)
    made.postgres.symlink_to(data)
    (data / "data").mkdir()
    (data / "data" / "PG_VERSION").write_text("18")
    (data / "tollwire_ledger.secret").write_text("s")
    if request.param == "of now":
        claim(made.postgres)
    return made


@pytest.fixture
def server(home: Home) -> Iterator[Child]:
    """What runs on the home's data."""
    child = Child("postgresql", home.postgres.resolve(), home.log_of("postgresql"))
    child.launch(SLEEP, death_signal=signal.SIGTERM)
    yield child
    for _ in child.stopping(()):
        pass


def run(home: Home, command: click.Command, *words: str) -> Result:
    """A command in that home."""
    return CliRunner().invoke(command, words, env={"TOLLWIRE_HOME": str(home.path)})


def copy_of(home: Home) -> Home:
    """As `cp -a` makes it."""
    place = home.path.with_name("copy")
    subprocess.run(["cp", "-a", str(home.path), str(place)], check=True)
    return Home(place)


def test_to_clean_a_copy_leaves_the_database_that_it_leads_to(home: Home):
    copy = copy_of(home)
    done = run(copy, down, "--clean")
    assert (home.postgres / "data" / "PG_VERSION").read_text() == "18"
    assert (done.exit_code, copy.path.exists()) == (1, True)
    assert "this home is perhaps a copy that has none of its own" in done.output
    told = f"If it is a copy, `rm -r {copy.path}` removes it, with its keyring, keys, seals and archive"
    assert told in done.output


@pytest.mark.parametrize("command", [down, up])
def test_a_copy_stops_no_server_of_its_original(home: Home, server: Child, command):
    assert run(copy_of(home), command).exit_code == 1
    assert server.pid is not None


def test_a_command_on_the_database_of_a_copy_is_told_that_it_has_none(home: Home):
    done = run(copy_of(home), keyring.commands["status"])
    assert done.exit_code == 1
    assert "this home is perhaps a copy that has none of its own" in done.output


def test_a_home_that_leads_to_nothing_makes_no_database_anew(home: Home):
    copy, data = copy_of(home), home.postgres.resolve()
    assert run(home, down, "--clean").exit_code == 0
    for command, words in ((up, []), (down, []), (down, ["--clean"])):
        done = run(copy, command, *words)
        assert done.exit_code == 1
        assert f"{data}, which is not there, so this home has no database" in done.output
    assert (copy.path.exists(), data.exists()) == (True, False)


def test_a_home_goes_on_with_its_data_where_it_stands_moved_and_put_back(home: Home):
    assert accounts.reachable_folder(home.postgres) == home.postgres.resolve()
    claim(home.postgres)
    moved = Home(home.path.rename(home.path.with_name("moved")))
    assert accounts.reachable_folder(moved.postgres) == moved.postgres.resolve()
    claim(moved.postgres)
    put_back = copy_of(moved)
    shutil.rmtree(moved.path)
    put_back = Home(put_back.path.rename(moved.path))
    assert accounts.reachable_folder(put_back.postgres) == put_back.postgres.resolve()


def test_the_copy_that_is_left_alone_is_given_the_data_as_it_is_told(home: Home):
    copy = copy_of(home)
    shutil.rmtree(home.path)
    follow_first_remedy(run(copy, down).output)
    assert accounts.reachable_folder(copy.postgres) == copy.postgres.resolve()
    assert (copy.postgres / linked_data.RECORD).read_text() == f"{copy.postgres}\n"


def test_a_home_that_is_no_copy_is_first_told_how_it_goes_on(home: Home):
    """To give a home of an earlier version to another account, or to link its files elsewhere, touches the
    link; a home that was moved to another file system is another folder."""
    if (home.postgres / linked_data.RECORD).exists():
        moved = copy_of(home)
        shutil.rmtree(home.path)
        home = moved
    else:
        made_ns = (home.postgres / "data" / "PG_VERSION").stat().st_ctime_ns
        while home.postgres.lstat().st_ctime_ns <= made_ns:  # its clock ticks every few milliseconds
            os.chown(home.postgres, os.geteuid(), os.getegid(), follow_symlinks=False)
    keys = home.keyring.read_bytes()
    follow_first_remedy(run(home, down).output)
    assert accounts.reachable_folder(home.postgres) == home.postgres.resolve()
    assert home.keyring.read_bytes() == keys


def test_a_copy_of_a_home_without_a_link_stops_nothing_of_its_original(tmp_path: Path):
    """It was made while the original ran, so it holds the pid files of that."""
    home = Home(tmp_path / "home")
    home.make()
    children = []
    for name, folder in (("api", home.run / "api"), ("postgresql", home.postgres), ("nats", home.nats)):
        folder.mkdir()
        children.append(Child(name, folder, home.log_of(name)))
        children[-1].launch(SLEEP, death_signal=signal.SIGTERM)
    try:
        copy, told = copy_of(home), list[str]()
        asyncio.run(stop_leftovers(copy, told.append))  # as `up` begins
        assert (told, list(copy.path.glob("**/*.pid"))) == ([], [])
        shutil.rmtree(copy.path)
        assert run(copy_of(home), down, "--clean").exit_code == 0
        assert all(child.pid is not None for child in children)
        asyncio.run(stop_leftovers(home, told.append))
        assert [line.split()[0] for line in told] == ["api", "nats", "postgresql"]
        assert all(child.pid is None for child in children)
    finally:
        for child in children:
            for _ in child.stopping(()):
                pass


def follow_first_remedy(told: str) -> None:
    """Do what an operator would type."""
    assert "If it is no copy, but was moved to another file system or given to another account" in told
    order = " ".join(told.split()).split("`")[1]
    assert order.startswith("echo ")
    subprocess.run(order, shell=True, check=True)
