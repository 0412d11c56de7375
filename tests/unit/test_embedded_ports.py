import os
import socket

import pytest

from embedded.ports import CHOICE_FIRST, CHOICE_LAST, free_port, holder_of, is_free


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
