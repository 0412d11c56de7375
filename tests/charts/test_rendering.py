"""Real Helm 3 and 4 accept the chart, and real schemas what comes out of it."""

from importlib.metadata import version

import kubernetes_validate
import pytest
import yaml

from tests.charts.rendering import (
    APIS,
    HELM3,
    HELM4,
    RELEASE,
    VALUE_SETS,
    Object,
    helm,
    named,
    rendered,
    template,
)
from tests.charts.tools import HELMS, Tool
from tests.charts.values_schema import CHART

KUBERNETES = ("1.34", "1.37")
CUSTOM = {
    "ScaledObject",
    "ServiceMonitor",
    "PrometheusRule",
    "HTTPRoute",
    "Cluster",
    "Pooler",
    "ScheduledBackup",
}


@pytest.mark.parametrize("which", HELMS, ids=["helm3", "helm4"])
@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_finds_nothing_to_say_against_the_chart(which: Tool, name: str) -> None:
    values = [word for file in VALUE_SETS[name] for word in ("--values", str(CHART / file))]
    done = helm(which, "lint", "--strict", str(CHART), *values, "--set", "crdCheck=false")
    assert done.status == 0, done.output + done.errors


@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_3_and_4_render_the_same(name: str) -> None:
    assert rendered(name, HELM3) == rendered(name, HELM4)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("name", VALUE_SETS)
def test_kubernetes_knows_every_field(name: str, kubernetes: str) -> None:
    faults = []
    for found in rendered(name):
        if found["kind"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(found, kubernetes, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{found['kind']}/{found['metadata']['name']}: {error}")
    assert faults == []


def test_a_field_that_kubernetes_does_not_know_is_a_fault() -> None:
    """Else the test above would prove nothing."""
    done = template(HELM4, VALUE_SETS["minimal"], "--set-json", 'api.readinessProbe={"httpGett": {}}')
    objects = tuple(one for one in yaml.safe_load_all(done.output) if one)
    api = named(objects, "Deployment", f"{RELEASE}-api")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(api, "1.34", strict=True)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_names_are_unique_and_every_object_says_where_it_belongs(name: str) -> None:
    objects = rendered(name)
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    ours = [one for one in objects if not one["metadata"]["name"].endswith("-example")]
    assert {one["metadata"]["namespace"] for one in ours} == {"sms"}
    assert {one["metadata"]["labels"]["app.kubernetes.io/instance"] for one in ours} == {RELEASE}


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("tollwire")
    assert "dependencies" not in chart


def test_long_names_stay_within_what_kubernetes_takes() -> None:
    done = helm(
        HELM4, "template", "a-release-with-a-name-of-fifty-three-characters-long", str(CHART),
        "--values", str(CHART / "ci/full.yaml"), "--set", "fullnameOverride=", "--set", "crdCheck=false",
    )  # fmt: skip
    objects: list[Object] = [one for one in yaml.safe_load_all(done.output) if one]
    # The others may have 253; these become labels and host names.
    strict = [one for one in objects if one["kind"] in {"Deployment", "Service", "Job", "Pod"}]
    assert max(len(one["metadata"]["name"]) for one in strict) <= 63


@pytest.mark.parametrize("kind", sorted(CUSTOM - {"Pooler", "ScheduledBackup", "PrometheusRule"}))
def test_a_custom_resource_without_its_operator_stops_with_a_sentence(kind: str) -> None:
    group = {
        "ScaledObject": ("full", "keda.sh/v1alpha1"),
        "ServiceMonitor": ("full", "monitoring.coreos.com/v1"),
        "HTTPRoute": ("full", "gateway.networking.k8s.io/v1"),
        "Cluster": ("100m-a-day", "postgresql.cnpg.io/v1"),
    }
    name, api = group[kind]
    done = template(HELM4, VALUE_SETS[name], apis=tuple(one for one in APIS if one != api))
    assert done.status != 0
    assert f"wants {kind} of {api}, and the cluster does not know it" in done.errors
