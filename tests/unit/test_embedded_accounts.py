import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from embedded.accounts import (
    account_for,
    copy_for_all,
    is_open_to_all,
    reachable_folder,
    remove_folder,
)

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def open_folder():
    """A folder that every account can pass through, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_below_a_closed_one_is_not_open_to_all(open_folder):
    inner = open_folder / "closed" / "inner"
    inner.mkdir(parents=True)
    assert is_open_to_all(inner)
    (open_folder / "closed").chmod(0o700)
    assert not is_open_to_all(inner)


def test_a_file_that_only_its_owner_reads_is_not_open_to_all(open_folder):
    file = open_folder / "file"
    file.touch()
    file.chmod(0o600)
    assert not is_open_to_all(file)
    file.chmod(0o644)
    assert is_open_to_all(file)


def test_a_reachable_folder_is_used_as_it_is(open_folder):
    folder = open_folder / "home" / "postgresql"
    assert reachable_folder(folder, open_folder / "system") == folder
    assert not folder.is_symlink()
    assert not (open_folder / "system").exists()


def test_root_keeps_its_data_elsewhere_when_the_way_is_closed_and_changes_no_mode_on_it(open_folder):
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "postgresql"
    real = reachable_folder(folder, open_folder / "system")
    if AS_ROOT:
        assert real.parent == open_folder / "system"
        assert folder.resolve() == real
        assert is_open_to_all(real)
    else:
        assert real == folder
    assert mode(closed) == 0o700


def test_the_place_of_the_data_stays_when_its_home_is_moved(open_folder):
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    real = reachable_folder(closed / "postgresql", open_folder / "system")
    (real / "PG_VERSION").write_text("18")
    moved = closed.rename(open_folder / "moved")
    assert (reachable_folder(moved / "postgresql", open_folder / "system") / "PG_VERSION").read_text() == "18"
    closed.mkdir(mode=0o700)
    anew = reachable_folder(closed / "postgresql", open_folder / "system")
    assert not (anew / "PG_VERSION").exists()


def test_removing_a_folder_removes_the_data_wherever_it_is(open_folder):
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    real = reachable_folder(closed / "postgresql", open_folder / "system")
    (real / "data").mkdir()
    remove_folder(closed / "postgresql")
    remove_folder(closed / "postgresql")
    assert not real.exists()
    assert list(closed.iterdir()) == []


def test_programs_are_copied_once_and_open_to_all(open_folder):
    source = open_folder / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "postgres").write_text("#!/bin/sh\n")
    (source / "bin" / "postgres").chmod(0o700)
    (source / "bin" / "postmaster").symlink_to("postgres")
    first = copy_for_all({"pg": source}, "postgresql-1", open_folder / "system")
    assert is_open_to_all(first / "pg" / "bin" / "postgres")
    assert (first / "pg" / "bin" / "postmaster").is_symlink()
    shutil.rmtree(source)
    assert copy_for_all({"pg": source}, "postgresql-1", open_folder / "system") == first
    assert [path.name for path in (open_folder / "system").iterdir()] == ["postgresql-1"]


@pytest.fixture
def source(open_folder):
    made = open_folder / "source"
    made.mkdir()
    (made / "postgres").write_text("#!/bin/sh\n")
    return made


def test_programs_get_their_name_when_all_of_them_is_on_the_disk(open_folder, source, monkeypatch):
    system = open_folder / "system"
    seen = []

    def sync() -> None:
        copies = [path for path in system.rglob("postgres") if path.read_text() and mode(path) == 0o755]
        seen.append((len(copies), (system / "postgresql-1").exists()))

    monkeypatch.setattr(os, "sync", sync)
    copy_for_all({"pg": source}, "postgresql-1", system)
    assert seen == [(1, False)]


def test_what_a_copy_that_was_broken_off_left_is_in_nobodys_way(open_folder, source):
    system = open_folder / "system"
    (system / f".postgresql-1.{os.getpid()}" / "pg").mkdir(parents=True)
    assert (copy_for_all({"pg": source}, "postgresql-1", system) / "pg" / "postgres").exists()


def test_a_copy_that_fails_leaves_nothing(open_folder):
    system = open_folder / "system"
    with pytest.raises(FileNotFoundError):
        copy_for_all({"pg": open_folder / "no such folder"}, "postgresql-1", system)
    assert list(system.iterdir()) == []


def test_root_runs_data_as_its_owner_and_new_data_as_nobody(open_folder):
    data = open_folder / "data"
    if not AS_ROOT:
        assert account_for(data) is None
        return
    fresh = account_for(data)
    assert fresh is not None
    assert fresh.uid != 0
    data.mkdir()
    os.chown(data, 4711, 4712)
    owner = account_for(data)
    assert owner is not None
    assert (owner.uid, owner.gid) == (4711, 4712)
