"""Every rule and dashboard that lies in the chart reaches the cluster, as it is."""

import json
import re

import pytest
import yaml

from tests.charts.rendering import HELM4, Object, named, of_kind, rendered
from tests.charts.values_schema import CHART

RULES = sorted((CHART / "rules").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
BIG = rendered("100m-a-day")
CONFIG_MAP_BYTES_MAX = 1024 * 1024
MIGRATION_JOBS = ".*tollwire.*migrat.*"


def named_by_suffix(objects: tuple[Object, ...], kind: str, suffix: str) -> Object:
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"].endswith(suffix)]
    return found


def alerts(groups: list[Object]) -> dict[str, Object]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_there_are_rules_and_dashboards() -> None:
    assert RULES
    assert DASHBOARDS


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_reach_the_cluster_as_they_are(path) -> None:
    found = named(BIG, "PrometheusRule", f"tollwire-{path.stem}")
    assert found["spec"] == yaml.safe_load(path.read_text())


def test_rules_may_be_left_out_labelled_and_pointed_at_runbooks_elsewhere() -> None:
    every = alerts([group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]])
    unwanted = next(iter(every))
    objects = rendered("full", HELM4, "--set-json", f'monitoring.prometheusRule.excludeRules=["{unwanted}"]')
    kept = alerts([group for one in of_kind(objects, "PrometheusRule") for group in one["spec"]["groups"]])
    assert every.keys() - kept.keys() == {unwanted}
    for name, rule in kept.items():
        # The release's name, in the set of values that has another.
        assert rule["expr"] == every[name]["expr"].replace(MIGRATION_JOBS, "sms-migrate.*")
        assert rule["labels"] == every[name]["labels"] | {"team": "messaging"}
        page = every[name]["annotations"]["runbook_url"].rpartition("/")[2]
        assert rule["annotations"]["runbook_url"] == f"https://runbooks.example.com/tollwire/{page}"


@pytest.mark.parametrize(
    "settings",
    ["fullnameOverride=sms", "nameOverride=gateway", "fullnameOverride=my-tollwire"],
)
@pytest.mark.parametrize("has_hooks", [True, False])
def test_a_migration_that_fails_is_told_of_whatever_the_release_is_called(
    settings: str, has_hooks: bool
) -> None:
    switch = f"{settings},migrations.useHelmHooks={str(has_hooks).lower()}"
    objects = rendered("full", HELM4, "--set", switch)
    groups = named_by_suffix(objects, "PrometheusRule", "-platform")["spec"]["groups"]
    expr = alerts(groups)["TollwireMigrationFailed"]["expr"]
    (pattern,) = re.findall(r'job_name=~"([^"]+)"', expr)
    jobs = [one["metadata"]["name"] for one in of_kind(objects, "Job")]
    matched = [name for name in jobs if re.fullmatch(pattern, name)]
    assert matched == [name for name in jobs if "-migrate" in name]
    assert len(matched) == 1


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_reach_the_cluster_as_they_are(path) -> None:
    found = named(BIG, "ConfigMap", f"tollwire-dashboard-{path.stem}")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = found["data"].values()
    assert json.loads(text) == json.loads(path.read_text())
    assert len(text) < CONFIG_MAP_BYTES_MAX


def test_every_pod_is_asked_for_its_metrics_by_a_service_of_its_own() -> None:
    (monitor,) = of_kind(BIG, "ServiceMonitor")
    selected = monitor["spec"]["selector"]["matchLabels"]
    services = [
        one for one in of_kind(BIG, "Service") if selected.items() <= one["metadata"]["labels"].items()
    ]
    names = {one["metadata"]["name"] for one in services}
    assert names == {f"tollwire-{one}-metrics" for one in ("api", "worker", "dlr", "ledger")}
    assert {one["spec"]["clusterIP"] for one in services} == {"None"}
    assert {port["name"] for one in services for port in one["spec"]["ports"]} == {"metrics"}
    assert {one["port"] for one in monitor["spec"]["endpoints"]} == {"metrics"}
