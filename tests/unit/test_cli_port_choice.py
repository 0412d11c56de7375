import os
import re
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import click
import pytest

from cli.port_choice import PortChoice, PortForbidden, PortTaken
from embedded.ports import free_port, is_free
from tests.support.accounts import IS_ROOT, another_account


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_part_gets_the_port_that_is_set_for_it():
    port = free_port()
    assert PortChoice({}, {"TOLLWIRE_PORT": str(port)}).port_of("api") == port


def test_port_0_means_any_free_one():
    assert PortChoice({}, {"TOLLWIRE_PORT": "0"}).port_of("api") > 1024


def test_a_set_port_that_is_taken_names_who_has_it_and_what_to_change(taken):
    with pytest.raises(PortTaken) as caught:
        PortChoice({}, {"TOLLWIRE_NATS_PORT": str(taken)}).port_of("nats")
    assert f"Port {taken} for NATS is in use by" in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert re.search(r"TOLLWIRE_NATS_PORT=\d+ make up", caught.value.message)


FIRST_FOR_ALL = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@pytest.mark.skipif(
    not FIRST_FOR_ALL.exists() or FIRST_FOR_ALL.read_text().strip() == "0",
    reason="every port is for everybody here",
)
def test_a_port_that_is_kept_for_root_is_not_said_to_be_in_use():
    with another_account() if IS_ROOT else nullcontext(), pytest.raises(PortForbidden) as caught:
        PortChoice({}, {"TOLLWIRE_PORT": "7"}).port_of("api")
    assert caught.value.message == (
        "Port 7 for the API is not for this account: ports below 1024 need root. "
        "Choose another: TOLLWIRE_PORT=8080 make up"
    )


@pytest.mark.parametrize("text", ["65536", "http", "-1", "80.5"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(click.BadParameter, match="TOLLWIRE_PORT"):
        PortChoice({}, {"TOLLWIRE_PORT": text}).port_of("api")


def test_a_part_keeps_its_port_from_one_start_to_the_next():
    port = free_port()
    assert PortChoice({"nats": port}, {}).port_of("nats") == port


def test_a_remembered_port_that_was_taken_meanwhile_is_replaced(taken):
    assert PortChoice({"nats": taken}, {}).port_of("nats") != taken


@pytest.mark.parametrize("variable", ["TOLLWIRE_PORT", "TOLLWIRE_RECEIPTS_PORT", "TOLLWIRE_POSTGRES_PORT"])
def test_a_remembered_port_that_is_set_for_another_part_is_that_parts_alone(variable):
    port = free_port()
    assert PortChoice({"nats": port}, {variable: str(port)}).port_of("nats") != port
    assert PortChoice({"nats": port}, {"TOLLWIRE_NATS_PORT": str(port)}).port_of("nats") == port


def test_a_remembered_port_that_another_instance_has_just_chosen_is_replaced():
    chooser = "from embedded.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", chooser], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert is_free(port)
        assert PortChoice({"nats": port}, {}).port_of("nats") != port
        other.communicate("\n")


def test_no_two_parts_get_the_same_port_and_each_is_asked_once():
    port = free_port()
    choice = PortChoice({"nats": port, "valkey": port}, {})
    ports = [choice.port_of(part) for part in ("nats", "valkey", "dlr", "worker health")]
    assert len(set(ports)) == 4
    assert choice.port_of("valkey") == ports[1]
    assert list(choice.chosen.values()) == ports
