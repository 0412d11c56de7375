"""A home goes back to a copy of it, by the commands of docs/recovery.md, and nothing goes out unmarked."""

import csv
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedded.ports import free_port
from tests.support.api_client import Api
from tests.support.carrier_control import submits_at_the_carrier
from tests.support.instance import Instance, eventually
from tests.support.recovery_doc import is_of_nats, restore_commands

# Four starts each.
pytestmark = pytest.mark.timeout(300)
POLICIES = ("at_most_once", "at_least_once")
OWN_COMMAND = f'tollwire() {{ {shlex.quote(sys.executable)} -P -m cli "$@"; }}\n'


@pytest.fixture
def instance() -> Iterator[Instance]:
    """A home in a folder that root's nobody can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-e2e-"))
    folder.chmod(0o755)
    made = Instance(folder / "home", free_port())
    yield made
    print(made.logs())  # shown when a test failed
    made.down("--clean")
    shutil.rmtree(folder)


@pytest.mark.parametrize("is_nats_kept", [True, False], ids=["of now", "of the copy"])
def test_what_waited_in_the_copy_goes_out_at_most_once_or_marked(
    instance: Instance, is_nats_kept: bool
) -> None:
    instance.up()
    assert instance.run("carrier", "stop", "simulator").returncode == 0
    eventually(lambda: instance.run("carrier", "show", "simulator").stdout, lambda said: "stopped" in said)
    ids = [api_of(instance).send("+4915112345678", delivery=policy)["id"] for policy in POLICIES]
    refused = instance.run("recover", "--restored-to", datetime.now(UTC).isoformat())
    assert (refused.returncode, "up --servers-only`" in refused.stderr) == (1, True), refused.stderr
    copy, moment = copy_of(instance)
    go_on_and_deliver(instance, ids)
    listed = restore(instance, copy, moment, is_nats_kept=is_nats_kept)
    assert instance.run("carrier", "start", "simulator").returncode == 0
    if is_nats_kept:
        assert [listed[id_] for id_ in ids] == ["ended", "ended"]
        eventually(lambda: states(instance, ids), lambda seen: seen == ["DELIVERED", "DELIVERED"])
        assert set(submits_at_the_carrier(instance.home.with_name("home.before")).values()) == {1}
        assert not submits_at_the_carrier(instance.home)
    else:
        assert [listed[id_] for id_ in ids] == ["held_back", "sent_again"]
        eventually(lambda: states(instance, ids), lambda seen: seen == ["UNKNOWN", "DELIVERED"])
        assert api_of(instance).message(ids[1])["possible_duplicate"]
        assert dict(submits_at_the_carrier(instance.home)) == {ids[1]: 1}


def copy_of(instance: Instance) -> tuple[Path, datetime]:
    """Copy the home while it is down; return where the copy is, and of which moment."""
    instance.down()
    copy = instance.home.with_name("copy")
    subprocess.run(["cp", "-a", str(instance.home), str(copy)], check=True)
    return copy, datetime.now(UTC)


def go_on_and_deliver(instance: Instance, ids: list[str]) -> None:
    """What the copy knows nothing of."""
    instance.up()
    assert instance.run("carrier", "start", "simulator").returncode == 0
    eventually(lambda: states(instance, ids), lambda seen: seen == ["DELIVERED", "DELIVERED"])


def restore(instance: Instance, copy: Path, moment: datetime, *, is_nats_kept: bool) -> dict[str, str]:
    """Type the document's commands; return what the list says was done, by message."""
    typed = restore_commands(
        lambda line: is_nats_kept or not is_of_nats(line), copy=copy, moment=moment.isoformat()
    )
    assert "tollwire up --servers-only --detach &&\ntollwire recover" in typed
    done = subprocess.run(
        ["bash", "-euc", OWN_COMMAND + typed],
        env=instance.environ, cwd=instance.home.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = csv.DictReader((instance.home.parent / "recovered.csv").read_text().splitlines())
    return {row["message_id"]: row["done"] for row in rows}


def api_of(instance: Instance) -> Api:
    status = instance.status()
    return Api(status["api_url"], status["demo_key"])


def states(instance: Instance, ids: list[str]) -> list[str]:
    return [api_of(instance).message(id_)["status"] for id_ in ids]
