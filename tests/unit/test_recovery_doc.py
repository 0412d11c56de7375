"""What docs/recovery.md has one type touches nothing that stands where it would put something."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.recovery_doc import DOC, is_of_before, restore_commands

# What the commands do with folders is looked at here; tests/e2e/test_restored_home.py has the real one.
WRITES_CALLS = 'tollwire() { echo "$*" >> calls; }\n'
CALLS = [
    "down",
    "up --servers-only --detach",
    "recover --restored-to 2026-11-22T00:00:00+00:00 --list recovered.csv",
    "ledger verify --full",
    "down",
    "up --detach",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("copy", "home"):
        (tmp_path / name / "nats").mkdir(parents=True)
        for file in ("of", "nats/of"):
            (tmp_path / name / file).write_text(name)
    return tmp_path


def typed(folder: Path, is_typed: Callable[[str], bool] = bool) -> bool:
    """Type the commands; whether they went through."""
    commands = restore_commands(is_typed, copy=folder / "copy", moment="2026-11-22T00:00:00+00:00")
    environ = {"PATH": os.environ["PATH"], "TOLLWIRE_HOME": str(folder / "home")}
    done = subprocess.run(["sh", "-c", WRITES_CALLS + commands], cwd=folder, env=environ, check=False)
    return done.returncode == 0


def content(folder: Path) -> dict[str, str]:
    """What is in every file, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "calls")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_the_copy_takes_the_homes_place_and_has_the_facts_of_before(folder: Path) -> None:
    assert typed(folder)
    found = content(folder)
    assert {name: found[name] for name in ("home/of", "home/nats/of", "home.before/of")} == {
        "home/of": "copy", "home/nats/of": "home", "home.before/of": "home",
    }  # fmt: skip
    assert (folder / "calls").read_text().splitlines() == CALLS


def test_where_a_home_of_before_stands_already_nothing_is_done(folder: Path) -> None:
    (folder / "home.before").mkdir()
    before = content(folder)
    assert not typed(folder)
    assert content(folder) == before
    assert not (folder / "calls").exists()


def test_a_copy_is_not_put_into_a_folder_that_stands_in_its_place(folder: Path) -> None:
    before = content(folder)
    assert not typed(folder, lambda line: not is_of_before(line))
    assert content(folder) == before
    assert (folder / "calls").read_text().splitlines() == ["down"]


def test_without_the_home_of_before_the_copy_is_what_there_is(folder: Path) -> None:
    for path in sorted((folder / "home").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "home").rmdir()
    assert typed(folder, lambda line: not is_of_before(line))
    assert content(folder)["home/nats/of"] == "copy"
    assert (folder / "calls").read_text().splitlines() == CALLS


def test_what_fails_is_the_last_that_is_done(folder: Path) -> None:
    (folder / "copy").rename(folder / "elsewhere")
    assert not typed(folder)
    assert (folder / "calls").read_text().splitlines() == ["down"]


def test_the_home_of_before_is_nothing_that_git_adds() -> None:
    """It holds keys, and texts; TOLLWIRE_HOME is `.tollwire` in this folder by default."""
    assert ".tollwire*/" in (DOC.parents[1] / ".gitignore").read_text().splitlines()
