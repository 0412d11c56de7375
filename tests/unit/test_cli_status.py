"""`tollwire status` of parts that are not well: a frozen server, and a process that misses something."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from cli.home import Home, ProcessState, State
from cli.status import look, status

NOT_READY = {"status": "not ready", "checks": {"schema": "ok", "postgres": "TimeoutError"}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home that somebody runs."""
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / "home"))
    made = Home(tmp_path / "home")
    made.make()
    with made.lock:
        yield made


def process(name: str, *, port: int | None = None, health_port: int | None = None) -> ProcessState:
    return ProcessState(name=name, pid=1, port=port, health_port=health_port, restarts=0, state="running")


@contextmanager
def http_server(body: bytes) -> Iterator[int]:
    """Answers each question with 503 and this body."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["postgresql", "nats", "valkey"])
def test_a_server_that_is_frozen_is_not_ready_though_its_port_is_open(home: Home, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        home.write_state(State(phase="running", processes=[process(name, port=frozen.getsockname()[1])]))
        assert look(home).health == {name: "does not answer"}


def test_what_a_process_misses_is_told_in_words(home: Home) -> None:
    with http_server(json.dumps(NOT_READY).encode()) as port:
        home.write_state(State(phase="running", processes=[process("worker", health_port=port)]))
        assert look(home).health == {"worker": "not ready: postgres: TimeoutError"}


def test_a_state_that_was_damaged_is_told_and_is_no_stopped_instance(home: Home) -> None:
    (home.path / "state.json").write_text("garbage")
    done = CliRunner().invoke(status)
    assert done.exit_code == 1
    assert "and its state.json cannot be read: it is written anew" in done.output
    assert json.loads(CliRunner().invoke(status, ["--json"]).output)["phase"] == "unknown"


def test_who_has_said_nothing_yet_is_starting(home: Home) -> None:
    assert look(home).phase == "starting"


def test_people_read_their_own_time_and_programs_utc(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_state(State(phase="running", started_at="2026-11-21T10:00:00+00:00"))
    monkeypatch.setattr("cli.status.time_text", lambda time: f"local time of {time}")
    shown = CliRunner().invoke(status).output
    assert "since local time of 2026-11-21T10:00:00+00:00" in shown
    told = json.loads(CliRunner().invoke(status, ["--json"]).output)
    assert told["started_at"] == "2026-11-21T10:00:00+00:00"
