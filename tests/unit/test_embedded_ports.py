import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from embedded.ports import (
    CHOICE_FIRST,
    CHOICE_LAST,
    RESERVATIONS,
    Reservations,
    free_port,
    holder_of,
    is_free,
    reserve,
)

ELSEWHERE = "import sys; from embedded.ports import reserve; sys.exit(not reserve(int(sys.argv[1])))"


def is_reserved_elsewhere(port: int) -> bool:
    """Ask another process, which ends, whether it could reserve the port."""
    return subprocess.run([sys.executable, "-c", ELSEWHERE, str(port)], check=False).returncode != 0


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_a_port_that_somebody_listens_on_is_not_free(listener):
    assert not is_free(port_of(listener))


def test_a_port_of_a_listener_on_all_addresses_is_not_free():
    with socket.create_server(("0.0.0.0", 0), reuse_port=True) as server:
        assert not is_free(port_of(server))


def test_a_port_is_free_again_after_its_listener_closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = port_of(server)
        socket.create_connection(("127.0.0.1", port)).close()
        server.accept()[0].close()
    assert is_free(port)


def test_the_holder_of_a_port_is_named_with_its_pid(listener):
    assert str(os.getpid()) in (holder_of(port_of(listener)) or "")


def test_nobody_holds_a_free_port():
    assert holder_of(free_port()) is None


def test_chosen_ports_are_free_distinct_and_below_those_of_outgoing_connections():
    taken: set[int] = set()
    for _ in range(20):
        port = free_port(taken)
        assert port not in taken
        assert CHOICE_FIRST <= port <= CHOICE_LAST
        taken.add(port)


def test_a_chosen_port_is_kept_from_other_processes_while_nobody_listens_there_yet():
    assert is_reserved_elsewhere(free_port())


def test_a_reservation_ends_with_its_process():
    port = next(port for port in range(CHOICE_FIRST, CHOICE_LAST) if not is_reserved_elsewhere(port))
    assert reserve(port)
    assert reserve(port), "it is ours already"
    assert is_reserved_elsewhere(port)


def test_a_process_gets_no_port_twice():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_without_a_file_for_reservations_ports_are_chosen_all_the_same(tmp_path):
    assert Reservations(tmp_path / "no such folder" / "ports.lock").take(CHOICE_FIRST)


def test_the_file_of_reservations_is_for_this_account_alone():
    free_port()
    file = Path(tempfile.gettempdir()) / RESERVATIONS
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_uid == os.getuid()


@pytest.mark.parametrize("words", [("status",), ("down", "--clean"), ("doctor", "--help"), ("up", "--help")])
def test_where_no_file_takes_a_byte_commands_are_there_all_the_same(tmp_path, words):
    """No folder passes for one of temporary files then (tempfile.gettempdir)."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words],
        env={**os.environ, "TOLLWIRE_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False, preexec_fn=take_no_byte,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode in {0, 3}


def take_no_byte() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
