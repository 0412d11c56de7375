"""`tollwire up` where an instance runs already."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire
from cli.home import Home, State
from cli.status import status
from cli.up import up


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home that somebody runs."""
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    home.make()
    home.demo_key.write_text("tw_key")
    with home.lock:
        yield home


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [((), 0), (("--detach",), 0), (("--scale", "worker=3"), 1), (("--detach", "--observe"), 1)],
)
def test_what_only_a_start_can_do_is_not_passed_over_where_it_runs(
    running: Home, options: tuple[str, ...], exit_code: int
) -> None:
    running.write_state(State(phase="running", api_url="http://127.0.0.1:1"))
    done = CliRunner().invoke(up, options)
    assert done.exit_code == exit_code
    assert ("Tollwire is running." in done.output) != bool(exit_code)
    assert ("Stop it first" in done.output) == bool(exit_code)


@pytest.mark.parametrize(
    ("options", "api_url", "exit_code", "title"),
    [
        (("--servers-only",), "", 0, "The servers are running, and no service."),
        (("--servers-only", "--detach"), "", 0, "The servers are running, and no service."),
        ((), "", 1, "Error: It runs without services. `"),
        (("--scale", "worker=2"), "", 1, "Error: It runs without services. `"),
        (("--servers-only",), "http://127.0.0.1:1", 1, "Error: It runs as it was started"),
    ],
)
def test_servers_alone_are_told_from_an_instance_with_services(
    running: Home, options: tuple[str, ...], api_url: str, exit_code: int, title: str
) -> None:
    running.write_state(State(phase="running", api_url=api_url))
    done = CliRunner().invoke(up, options)
    assert (done.exit_code, done.output.strip().startswith(title)) == (exit_code, True)


def test_the_state_of_servers_alone_names_no_api(running: Home) -> None:
    running.write_state(State(phase="running"))
    done = CliRunner().invoke(status)
    assert (done.exit_code, "Tollwire is running without services, since" in done.output) == (0, True)
    assert json.loads(CliRunner().invoke(status, ["--json"]).output)["api_url"] is None


@pytest.mark.parametrize("other", [("--scale", "worker=2"), ("--observe",)])
def test_what_is_for_services_does_not_go_with_servers_alone(other: tuple[str, ...]) -> None:
    done = CliRunner().invoke(up, ["--servers-only", *other])
    assert (done.exit_code, "--servers-only starts no service" in done.output) == (2, True)


@pytest.mark.parametrize("words", ["up", "status", "doctor", "down", "ledger verify", "listen"])
def test_a_command_with_exit_codes_of_its_own_tells_them(words: str) -> None:
    """docs/cli.md sends its readers there."""
    help_text = CliRunner().invoke(tollwire, [*words.split(), "--help"]).output
    assert "Exit status: 0" in help_text or "Exit codes:" in help_text
