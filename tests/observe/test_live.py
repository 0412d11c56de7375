"""An instance under load with `--observe`: every query of every dashboard has data, and every rule works."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from embedded.ports import free_port
from embedded.postgres import PostgresServer
from tests.observe import picture
from tests.observe.load import Load
from tests.observe.prometheus import Prometheus
from tests.observe.rules import ALWAYS, alerts, commands
from tests.support.callback_sink import CallbackSink
from tests.support.dashboards.files import expressions, written
from tests.support.instance import Instance, eventually

# Rates need two looks at a counter, recordings half a minute; what is read every minute needs two of them.
PATIENCE_SECONDS = 240.0
PAUSE_SECONDS = 5.0
# These fire where a machine is short of CPU, as CI's may be; tests/observe/alerts.yaml tries them.
OF_THE_MACHINE = {
    "TollwireAcceptLatencyBudgetBurn",
    "TollwireApiErrorBudgetBurn",
    "TollwireApiLatencyP99High",
    "TollwireSubmitDelayBudgetBurn",
}
RATE_WINDOW = "1m"  # what Grafana would take for looks every 5 s and a wide screen


class Scene(NamedTuple):
    """What runs, since when."""

    instance: Instance
    prometheus: Prometheus
    load: Load
    begun_at: float


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="tollwire-observe-"))
    folder.chmod(0o755)  # root's PostgreSQL runs as nobody, who must get through
    instance = Instance(folder / "home", free_port())
    try:
        instance.up("--observe")
        status = instance.status()
        processes = status["processes"]
        port = next(process["port"] for process in processes if process["name"] == "prometheus")
        prometheus, load = Prometheus(port), Load(status["api_url"], status["demo_key"])
        services = sum(process["health_port"] is not None for process in processes)
        # What happens once, such as the check of a new key, is seen as a step: the counter's 0 must be there.
        eventually(lambda: prometheus.total("up"), lambda number: number == services)
        with CallbackSink() as sink:
            assert load.ask("PUT", "/v1/callback", {"url": sink.url}) in (200, 201)
            with load:
                yield Scene(instance, prometheus, load, time.time())
        if folder_of_pages := os.environ.get("OBSERVE_PAGES"):
            picture.main(str(port), folder_of_pages, "5")
    finally:
        instance.down("--clean")
        shutil.rmtree(folder)


def queries() -> dict[str, str]:
    """Every expression that is drawn, by where it stands."""
    return {
        f"{name}: {title} ({nth})": expr.replace("$__rate_interval", RATE_WINDOW)
        for name, dashboard in written().items()
        for nth, (title, expr) in enumerate(expressions(dashboard))
    }


def test_every_query_of_every_dashboard_has_data(scene: Scene) -> None:
    missing = queries()
    until = time.monotonic() + PATIENCE_SECONDS
    while missing and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)  # until Prometheus has looked again
        now = time.time()
        missing = {
            where: expr
            for where, expr in missing.items()
            if not scene.prometheus.points(expr, scene.begun_at, now)
        }
    assert missing == {}
    assert scene.load.accepted > 0


def test_every_rule_is_loaded_and_evaluates(scene: Scene) -> None:
    rules = [rule for group in scene.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    loaded = {rule["name"] for rule in rules if rule["type"] == "alerting"}
    assert loaded == {alert.name for alert in alerts()}
    assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}


def test_what_runbooks_ask_of_prometheus_is_understood(scene: Scene) -> None:
    asked = commands("promtool")
    assert len(asked) > len(alerts())
    for expr in asked.values():
        scene.prometheus.ask("query", query=expr)


async def test_what_runbooks_ask_of_postgresql_is_answered_to_the_reader(scene: Scene) -> None:
    """Each statement as tollwire_readonly, whose rights are the least."""
    ports = {process["name"]: process["port"] for process in scene.instance.status()["processes"]}
    server = PostgresServer(scene.instance.home / "postgresql", port=ports["postgresql"])
    connection = await asyncpg.connect(server.dsn(user="tollwire_readonly", database="tollwire"))
    try:
        for statement in commands("psql").values():
            await connection.fetch(statement)
    finally:
        await connection.close()


def test_nobody_is_woken_by_ordinary_traffic(scene: Scene) -> None:
    firing = scene.prometheus.firing()
    assert ALWAYS in firing
    assert {name for name, severity in firing.items() if severity == "critical"} - OF_THE_MACHINE == set()
