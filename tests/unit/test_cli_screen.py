import io
import re
import shlex
from pathlib import Path

from rich.console import Console

from cli.home import Home, State
from cli.screen import Screen, print_step, print_summary, short

KEY = "tw_abcdefghijkl_" + "x" * 43


def test_steps_are_plain_lines_without_a_terminal_and_land_in_the_log(tmp_path):
    output = io.StringIO()
    screen = Screen(Console(file=output), tmp_path / "supervisor.log")
    with screen.step("Starting nats") as titles:
        titles.append("NATS 2.15.1")
    screen.note("No Valkey here")
    screen.warn("Another keyring")
    # A slow machine shows how long it took.
    lines = r"  ✓ NATS 2.15.1( +\d+\.\d s)?\n  · No Valkey here\n  ! Another keyring\n"
    assert re.fullmatch(lines, output.getvalue())
    assert [step.text.split("  ")[0] for step in screen.steps] == [
        "NATS 2.15.1", "No Valkey here", "Another keyring",
    ]  # fmt: skip
    assert "NATS 2.15.1: done in " in (tmp_path / "supervisor.log").read_text()


def test_what_the_background_says_of_its_start_keeps_its_kind(tmp_path):
    output = io.StringIO()
    home, screen = Home(tmp_path), Screen(Console(quiet=True), tmp_path / "supervisor.log")
    screen.note("No Valkey here")
    screen.warn("Another keyring")
    home.write_state(State(screen=screen.steps))
    state = home.read_state()
    assert state is not None
    for step in state.screen:
        print_step(Console(file=output), step)
    assert output.getvalue() == "  · No Valkey here\n  ! Another keyring\n"


def test_the_command_to_paste_is_one_command_on_a_narrow_terminal_too(tmp_path):
    home = Home(tmp_path)
    home.demo_key.write_text(KEY)
    output = io.StringIO()
    console = Console(file=output, width=40, force_terminal=False)
    print_summary(console, home, State(api_url="http://127.0.0.1:8080"), "Ctrl-C")
    send = output.getvalue().partition("Send a message:\n")[2].partition("\n\n")[0]
    body = '{"to": "+4915112345678", "text": "Hello from Tollwire"}'
    assert shlex.split(send.replace("\\\n", "")) == [
        "curl", "-s", "http://127.0.0.1:8080/v1/messages",
        "-H", f"X-API-Key: {KEY}", "-H", "Content-Type: application/json", "-d", body,
    ]  # fmt: skip


def test_paths_are_short_where_they_can_be(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / ".tollwire" / "logs") == ".tollwire/logs"
    assert short(Path.home() / "x") == "~/x"
    assert short(Path("/srv/x")) == "/srv/x"
