"""`tollwire keyring` without a database."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.failures import Exit
from cli.keyring import keyring
from shared.runtime.keyring import Keyring


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
