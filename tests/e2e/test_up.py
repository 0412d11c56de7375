"""`tollwire up`, `status` and `down`, as a newcomer uses them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.ports import free_port
from tests.support.instance import Instance, commands_on, curl, eventually

# Eight whole starts of everything, also on a machine that has other things to do.
pytestmark = pytest.mark.timeout(300)
SERVERS = {"postgresql", "nats", "valkey"}
SERVICES = {"simulator", "ledger", "api", "worker", "dlr"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that root's nobody can pass through."""
    made = Path(tempfile.mkdtemp(prefix="tollwire-e2e-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def instance(folder: Path) -> Iterator[Instance]:
    made = Instance(folder / "home", free_port())
    made.up()
    yield made
    print(made.logs())  # shown when a test failed
    made.down("--clean")
    assert not made.home.exists()


def send_and_follow(screen: str) -> Any:
    """Paste the two commands of the screen: send a message, then look until it is final."""
    send, look = commands_on(screen)
    status, accepted = curl(send)
    assert status == 202, accepted
    words = [word.replace("/ID", f"/{accepted['id']}") for word in look]
    return eventually(lambda: curl(words)[1], lambda message: message["status"] == "DELIVERED")


def test_the_pasted_commands_send_a_message_and_show_it_delivered_and_paid(instance):
    message = send_and_follow(instance.run("up").stdout)
    assert message["hold"]["state"] == "CAPTURED"
    assert len(message["attempts"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_an_instance_that_listens_on_an_address_of_its_own_starts_and_sends(folder: Path):
    own = "127.0.0.9"
    hosts = {f"TOLLWIRE_{name}HOST": own for name in ("", "HEALTH_", "RECEIPTS_", "SIMULATOR_")}
    made = Instance(folder / "elsewhere", free_port(), **hosts)
    try:
        message = send_and_follow(made.up())
        assert message["hold"]["state"] == "CAPTURED"
        status = made.status()
        assert status["api_url"] == f"http://{own}:{made.environ['TOLLWIRE_PORT']}"
        assert set(status["health"].values()) == {"ready"}
    finally:
        made.down("--clean")


def test_up_on_a_running_instance_shows_where_it_is(instance):
    done = instance.run("up")
    assert done.returncode == 0
    assert f"http://127.0.0.1:{instance.environ['TOLLWIRE_PORT']}" in done.stdout
    assert instance.run("up", "--detach").stdout == done.stdout


def test_status_tells_everything_about_a_healthy_instance(instance):
    status = eventually(instance.status, lambda status: status["exit"] == 0)
    assert status["running"]
    assert status["api_url"] == f"http://127.0.0.1:{instance.environ['TOLLWIRE_PORT']}"
    assert status["demo_key"].startswith("tw_")
    assert status["data_folder"] == str(instance.home)
    assert status["versions"].keys() == {"tollwire", *SERVERS}
    assert {process["name"] for process in status["processes"]} == SERVERS | SERVICES
    assert set(status["health"].values()) == {"ready"}


@pytest.mark.parametrize("name", ["worker", "api", "postgresql", "nats"])
def test_a_process_that_is_killed_runs_again_and_it_is_said(instance, name):
    eventually(instance.status, lambda status: status["exit"] == 0)
    pid = instance.pid_of(name)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: instance.pid_of(name), lambda again: again not in {0, pid})
    eventually(instance.status, lambda status: status["exit"] == 0)
    told = (instance.home / "logs" / "supervisor.log").read_text()
    assert f"{name} was killed by SIGKILL; starting it again" in told
    assert f"{name} is running again" in told


def test_after_a_kill_of_the_supervisor_nothing_is_left_and_up_goes_on(instance):
    message = send_and_follow(instance.run("up").stdout)
    key = instance.status()["demo_key"]
    os.kill(instance.status()["supervisor_pid"], signal.SIGKILL)
    screen = instance.up_detached()
    assert instance.status()["demo_key"] == key
    look = [word.replace("/ID", f"/{message['id']}") for word in commands_on(screen)[1]]
    assert curl(look)[1]["status"] == "DELIVERED"


def test_two_instances_live_side_by_side_and_a_stopped_one_says_so(instance, folder):
    other = Instance(folder / "other", free_port())
    assert other.status()["exit"] == 3
    assert "Client demo, with 10,000.00 EUR of credit" in other.up("--scale", "worker=2,api=2")
    status = eventually(other.status, lambda status: status["exit"] == 0)
    names = {process["name"] for process in status["processes"]}
    assert {"api-1", "api-2", "worker-1", "worker-2"} < names
    assert send_and_follow(other.run("up").stdout)["id"]
    assert instance.status()["running"]
    other.down()
    assert other.status()["exit"] == 3
    assert other.home.exists()
    other.down("--clean")
    assert not other.home.exists()


def test_ctrl_c_drains_and_stops_everything(folder):
    foreground = Instance(folder / "foreground", free_port())
    process = subprocess.Popen(
        foreground.command("up"),
        env=foreground.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if "-H 'X-API-Key" in line and len(commands_on("".join(shown))) == 2:
            break
    assert any("Ctrl-C" in line for line in shown), "".join(shown) + foreground.logs()
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    process.stdout.close()
    assert "Stopped." in rest
    assert process.wait() == 0
    assert foreground.status()["exit"] == 3
    foreground.run("down", "--clean")


@pytest.mark.parametrize("arguments", [("up",), ("up", "--detach")])
def test_a_port_in_use_is_a_clear_error_with_the_way_out(folder, arguments):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        blocked = Instance(folder / "blocked", port)
        done = blocked.run(*arguments)
    assert done.returncode == 4
    assert f"Port {port} for the API is in use by" in done.stderr
    assert "TOLLWIRE_PORT=" in done.stderr
    blocked.run("down", "--clean")
