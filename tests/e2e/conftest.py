"""Whole instances for the end-to-end tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.ports import free_port
from tests.support.instance import Instance


@pytest.fixture(scope="module")
def running() -> Iterator[Instance]:
    """A running instance; its books are verified when the module's tests are over."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-e2e-"))
    folder.chmod(0o755)  # root's PostgreSQL runs as nobody, who must get through
    made = Instance(folder / "home", free_port())
    made.up()
    yield made
    verified = made.run("ledger", "verify", "--full")
    made.down("--clean")
    shutil.rmtree(folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr
