"""README.md is done as it stands there: every command of it, in a clean clone, by a shell.

Two things differ from what a newcomer types: `make up` goes into the background, and its virtual
environment is the one of this test, so that nothing is downloaded again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BLOCKS: list[str] = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
# `make test` runs what runs this; that it is there, and that CI calls it, is looked at below.
NOT_RUN_HERE = "make test\n"
UP = "make up\n"
# 5,000 messages on a machine that does other things as well.
COMMAND_SECONDS = 100.0
# Not every machine has a curl; this one does what the README's options ask for.
CURL = f"""#!{sys.executable}
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.instance import curl
print(json.dumps(curl(["curl", *sys.argv[1:]])[1]))
"""


class Clone:
    """A clean clone of what is committed, and a shell in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tollwire"
        self._port = free_port()
        # Whoever owns the checkout may be asked for it: git believes that only from a file of the user.
        (folder / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
        subprocess.run(
            ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.folder)],
            env={**os.environ, "GIT_CONFIG_GLOBAL": str(folder / "gitconfig")},
            check=True, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        (self.folder / ".venv").symlink_to(sys.prefix)
        tools = folder / "tools"
        tools.mkdir()
        (tools / "curl").write_text(CURL)
        (tools / "curl").chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
        self._environ = {
            **inherited,
            "PATH": f"{self.folder}/.venv/bin:{tools}:{os.environ['PATH']}",
            # The environment knows our working copy by name; the clone's own code comes first.
            "PYTHONPATH": str(self.folder),
            "TOLLWIRE_PORT": str(self._port),
        }

    def shell(self, commands: str) -> str:
        """Run the lines of a block as they would be pasted; return what they print."""
        done = subprocess.run(
            ["sh", "-eu", "-c", commands.replace(":8080/", f":{self._port}/")],
            cwd=self.folder, env=self._environ, capture_output=True, text=True, check=False,
            timeout=COMMAND_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """The clone, up and running by the README's first command."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-readme-"))
    folder.chmod(0o755)  # root's PostgreSQL runs as nobody, who must get through
    made = Clone(folder)
    try:
        # --old-file: the environment is there, it need not be made.
        screen = made.shell(UP.strip() + " ARGS=--detach --old-file=.venv/.installed")
        assert "Tollwire is running." in screen
        yield made
    finally:
        made.shell("tollwire down --clean")
        shutil.rmtree(folder)


def block_with(command: str) -> str:
    return next(block for block in BLOCKS if command in block)


def test_the_readme_has_these_commands_and_each_is_run_below() -> None:
    assert BLOCKS[:2] == [UP, NOT_RUN_HERE]
    assert BLOCKS[2:] == [block_with("curl"), block_with("tollwire send")]


def test_the_second_command_is_there_and_ci_calls_it() -> None:
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert NOT_RUN_HERE.strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_it_is_the_clone_that_runs(clone: Clone) -> None:
    assert clone.shell("python -c 'import cli; print(cli.__file__)'").startswith(str(clone.folder))


def test_the_first_message_is_sent_once_however_often_it_is_pasted(clone: Clone) -> None:
    first, second = (json.loads(clone.shell(block_with("curl"))) for _ in range(2))
    assert first == second
    shown = json.loads(clone.shell(f"tollwire message show --json {first['id']}"))
    assert shown["to"] == "+4915112345678"


@pytest.mark.timeout(COMMAND_SECONDS + 20)
def test_the_commands_do_what_is_said_of_them(clone: Clone) -> None:
    said = clone.shell(block_with("tollwire send"))
    assert "DELIVERED" in said
    assert "The books are whole." in said
