"""`tollwire up` where an instance runs already."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from cli.home import Home, State
from cli.up import up


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [((), 0), (("--detach",), 0), (("--scale", "worker=3"), 1), (("--detach", "--observe"), 1)],
)
def test_what_only_a_start_can_do_is_not_passed_over_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], exit_code: int
) -> None:
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    home.make()
    home.demo_key.write_text("tw_key")
    home.write_state(State(phase="running", api_url="http://127.0.0.1:1"))
    with home.lock:
        done = CliRunner().invoke(up, options)
    assert done.exit_code == exit_code
    assert "Tollwire is running." in done.output
    assert ("Stop it first" in done.output) == bool(exit_code)


@pytest.mark.parametrize("words", ["up", "status", "doctor", "down", "ledger verify", "listen"])
def test_a_command_with_exit_codes_of_its_own_tells_them(words: str) -> None:
    """docs/cli.md sends its readers there."""
    help_text = CliRunner().invoke(tollwire, [*words.split(), "--help"]).output
    assert "Exit status: 0" in help_text or "Exit codes:" in help_text
