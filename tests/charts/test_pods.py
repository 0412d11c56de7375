"""Every pod meets the restricted standard, stops within its grace, and is probed for what a probe means."""

import math

import pytest

from shared.runtime import loops
from tests.charts.rendering import HELM4, VALUE_SETS, Object, named, of_kind, pods, rendered

CONTAINERS = [
    pytest.param(pod, id=f"{name}-{which}")
    for name in VALUE_SETS
    for which, pod in pods(rendered(name)).items()
]


@pytest.mark.parametrize("pod", CONTAINERS)
def test_every_pod_meets_the_restricted_standard(pod: Object) -> None:
    """Pod Security Standards, profile restricted, and beyond it: no root file system, no token."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    allowed = {"emptyDir", "secret", "configMap", "persistentVolumeClaim", "name"}
    assert all(volume.keys() <= allowed for volume in pod["volumes"])
    assert not pod.get("initContainers")
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize(
    ("name", "settings", "strategy"),
    [
        ("minimal", "", "Recreate"),
        ("minimal", "ledger.persistence.accessModes={ReadWriteMany}", "RollingUpdate"),
        ("minimal", "ledger.persistence.enabled=false", "RollingUpdate"),
        ("minimal", "ledger.persistence.enabled=false,ledger.strategy.type=Recreate", "Recreate"),
        ("100m-a-day", "", "RollingUpdate"),
    ],
)
def test_the_ledger_is_away_in_an_upgrade_only_where_its_volume_can_be_mounted_once(
    name: str, settings: str, strategy: str
) -> None:
    """Its new pods wait for the schema; where the migration fails, those of before go on."""
    objects = rendered(name, HELM4, *(("--set", settings) if settings else ()))
    ledger = named(objects, "Deployment", "tollwire-ledger")
    assert ledger["spec"]["strategy"]["type"] == strategy
    assert ("rollingUpdate" in ledger["spec"]["strategy"]) is (strategy == "RollingUpdate")


@pytest.mark.parametrize("pod", CONTAINERS)
def test_every_container_has_room_and_a_limit_of_memory(pod: Object) -> None:
    for container in pod["containers"]:
        resources = container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert "memory" in resources["limits"]
        assert "cpu" not in resources["limits"]


@pytest.mark.parametrize("pod", CONTAINERS)
def test_secrets_come_as_files_that_our_group_alone_reads_or_one_variable_each(pod: Object) -> None:
    for volume in pod["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["/tmp"]["name"] == "tmp"
    assert all(mount.get("readOnly") for path, mount in mounts.items() if path.startswith("/etc/"))
    names = [volume["name"] for volume in pod["volumes"]]
    assert len(names) == len(set(names))
    assert {mount["name"] for mount in mounts.values()} <= set(names)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_a_pod_has_as_long_to_stop_as_its_process_may_take(name: str) -> None:
    for deployment in of_kind(rendered(name), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        lifecycle = pod["containers"][0].get("lifecycle", {})
        wait = lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = wait + loops.GRACE_SECONDS + loops.FIRM_SECONDS
        assert pod["terminationGracePeriodSeconds"] > needed, deployment["metadata"]["name"]


@pytest.mark.parametrize("component", ["api", "worker", "dlr", "ledger"])
def test_each_probe_asks_what_it_is_for(component: str) -> None:
    deployment = named(rendered("minimal"), "Deployment", f"tollwire-{component}")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {
        "startupProbe": {"path": "/startupz", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
        "livenessProbe": {"path": "/healthz", "port": "health"},
    }
    # PostgreSQL may be away for a minute at the start: the process ends itself before the probe ends it.
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    # A check takes two seconds at most; a probe that waits for less would never hear of it.
    assert container["readinessProbe"]["timeoutSeconds"] > math.ceil(2.0)


def test_the_api_is_forgotten_by_endpoints_before_it_is_asked_to_stop() -> None:
    for component in ("api", "dlr"):
        deployment = named(rendered("minimal"), "Deployment", f"tollwire-{component}")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
    worker = named(rendered("minimal"), "Deployment", "tollwire-worker")
    assert "lifecycle" not in worker["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("name", VALUE_SETS)
def test_pods_spread_over_zones_and_nodes_and_leave_one_at_a_time(name: str) -> None:
    objects = rendered(name)
    budgets = {one["metadata"]["name"] for one in of_kind(objects, "PodDisruptionBudget")}
    for deployment in of_kind(objects, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        keys = [one["topologyKey"] for one in spread]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        assert all(one["labelSelector"]["matchLabels"] == selector for one in spread)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
        assert not [key for key in labels if key in {"helm.sh/chart", "app.kubernetes.io/version"}]
    if name == "minimal":
        assert budgets == {f"tollwire-{one}" for one in ("api", "worker", "dlr", "ledger")}


def test_no_two_deployments_select_the_same_pods() -> None:
    deployments = of_kind(rendered("full"), "Deployment")
    for one in deployments:
        labels = one["spec"]["template"]["metadata"]["labels"]
        selecting = [
            other["metadata"]["name"]
            for other in deployments
            if other["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ]
        assert selecting == [one["metadata"]["name"]]
