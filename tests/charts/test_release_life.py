"""The life of a release, by real Helm 3 and 4, against an API server that refuses what a real one refuses."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.charts.kube.server import FakeCluster
from tests.charts.programs import Client
from tests.charts.tools import HELMS, KUBECTL

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "tollwire"
NAMESPACE: Final = "tollwire"
RELEASE: Final = "tollwire"
ROLES: Final = ("migrate", "api", "worker", "dlr", "ledger")
# Nothing here waits for anything but our own server.
WAIT: Final = ("--wait", "--timeout", "60s")
# Long enough to see that it does not become ready, short enough to wait for.
SHORT_WAIT: Final = ("--wait", "--timeout", "3s")
DEPLOYMENTS: Final = ("api", "dlr", "ledger", "worker")


@dataclass(frozen=True, slots=True)
class Release:
    """A cluster with the Secrets that the chart wants, and Helm at hand."""

    cluster: FakeCluster
    helm: Client
    kubectl: Client

    def install(self, *words: str, **more: Any) -> str:
        """`helm install`."""
        return self.helm.run("install", RELEASE, str(CHART), "-n", NAMESPACE, *self._values(), *words, **more)

    def upgrade(self, *words: str, **more: Any) -> str:
        """`helm upgrade`."""
        return self.helm.run("upgrade", RELEASE, str(CHART), "-n", NAMESPACE, *self._values(), *words, **more)

    def _values(self) -> tuple[str, ...]:
        return ("-f", str(CHART / "ci" / "minimal.yaml"))

    def images(self) -> set[str]:
        """What the Deployments run."""
        return {
            container["image"].rpartition(":")[2]
            for found in self.cluster.objects("Deployment").values()
            for container in found["spec"]["template"]["spec"]["containers"]
        }

    def statuses(self) -> list[str]:
        """Of each revision, as Helm keeps them."""
        history = self.helm.run("history", RELEASE, "-n", NAMESPACE, "-o", "json")
        return [one["status"] for one in json.loads(history)]

    def written(self) -> list[str]:
        """What was written successfully, in order, without Helm's own notes."""
        return [
            f"{one.kind}/{one.name}"
            for one in self.cluster.writes
            if one.method != "DELETE" and one.code < 400 and not one.name.startswith("sh.helm.")
        ]


@pytest.fixture(params=HELMS, ids=["helm3", "helm4"])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Release]:
    """An empty namespace with Secrets of an operator's own."""
    with FakeCluster().running() as cluster:
        environ = {"KUBECONFIG": str(cluster.kubeconfig(tmp_path, NAMESPACE))}
        kubectl = Client(KUBECTL, tmp_path, environ)
        kubectl.run("create", "namespace", NAMESPACE)
        for role in ROLES:
            secret(kubectl, f"tollwire-postgres-{role}", password="secret")
        secret(kubectl, "tollwire-keyring", **{"keyring.json": "{}"})
        yield Release(cluster, Client(request.param, tmp_path, environ), kubectl)


def secret(kubectl: Client, name: str, **content: str) -> None:
    """Make one."""
    words = [f"--from-literal={key}={value}" for key, value in content.items()]
    kubectl.run("create", "secret", "generic", name, *words)


def test_a_release_is_installed_tested_upgraded_rolled_back_and_removed(release: Release) -> None:
    release.install(*WAIT, "--set", "image.tag=one")
    assert release.cluster.stuck() == {}
    first = release.written()
    deployed = [first.index(f"Deployment/tollwire-{name}") for name in DEPLOYMENTS]
    assert first.index("Job/tollwire-migrate") < min(deployed) < first.index("Job/tollwire-bootstrap")

    assert "Succeeded" in release.helm.run("test", RELEASE, "-n", NAMESPACE)

    release.upgrade(*WAIT, "--set", "image.tag=two")
    assert release.images() == {"two"}
    release.helm.run("rollback", RELEASE, "1", "-n", NAMESPACE, *WAIT)
    assert release.images() == {"one"}
    assert release.statuses() == ["superseded", "superseded", "deployed"]

    release.helm.run("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    kept = {name for name in release.cluster.objects() if not name.startswith(("Namespace/", "Secret/"))}
    assert kept == {"PersistentVolumeClaim/tollwire-ledger"}, "the archive and the seals outlive the release"


def test_a_migration_that_fails_stops_the_upgrade_before_anything_is_touched(release: Release) -> None:
    release.install(*WAIT, "--set", "image.tag=one")
    before = release.cluster.objects("Deployment")
    release.cluster.writes.clear()
    release.cluster.controllers.failing.add("migrate")

    said = release.upgrade(*WAIT, "--set", "image.tag=two", is_expected_to_fail=True)

    assert "pre-upgrade hooks failed" in said
    assert {name for name in release.written() if not name.startswith("Job/tollwire-migrate")} == set()
    assert release.cluster.objects("Deployment") == before
    assert release.statuses() == ["deployed", "failed"]

    release.cluster.controllers.failing.clear()
    release.upgrade(*WAIT, "--set", "image.tag=two")
    assert release.images() == {"two"}


def test_a_secret_that_is_not_there_is_waited_for_and_named(release: Release) -> None:
    release.kubectl.run("delete", "secret", "tollwire-postgres-migrate")

    release.install(*SHORT_WAIT, is_expected_to_fail=True)

    missing = "Secret 'tollwire-postgres-migrate' is not there"
    assert release.cluster.stuck() == {"Job/tollwire-migrate": [missing]}, (
        "the hook needs nothing of the chart"
    )
    assert release.cluster.objects("Deployment") == {}


def test_an_autoscaler_and_helm_do_not_fight_over_replicas(release: Release) -> None:
    release.install(*WAIT, "--set", "image.tag=one")
    release.cluster.scale(NAMESPACE, "tollwire-api", 7)

    release.upgrade(*WAIT, "--set", "image.tag=two")

    assert release.cluster.objects("Deployment")["Deployment/tollwire-api"]["spec"]["replicas"] == 7


@pytest.mark.parametrize("is_given_away", [True, False])
def test_a_running_release_that_gets_an_autoscaler_begins_with_one_pod_unless_its_count_is_given_away(
    release: Release, is_given_away: bool
) -> None:
    """What Helm leaves out it takes away, and Kubernetes' own word for that is 1 (docs/kubernetes.md)."""
    release.install(*WAIT, "--set", "api.autoscaling.enabled=false,api.replicas=3")
    if is_given_away:
        release.kubectl.run("scale", "deployment", "tollwire-api", "--replicas=4")

    release.upgrade(*WAIT, "--set", "api.autoscaling.enabled=true")

    kept = 4 if is_given_away and release.helm.tool.name == "helm4" else 1
    assert release.cluster.objects("Deployment")["Deployment/tollwire-api"]["spec"]["replicas"] == kept


def test_a_version_that_never_becomes_ready_is_rolled_back(release: Release) -> None:
    release.install(*WAIT, "--set", "image.tag=one")
    release.cluster.controllers.failing.add("bad")
    flag = "--atomic" if release.helm.tool.name == "helm3" else "--rollback-on-failure"

    # Only the api is bad, so that the migration is not what fails.
    release.upgrade(
        *SHORT_WAIT, flag, "--set", "api.extraEnv[0].name=A,api.extraEnv[0].value=b",
        "--set", "api.extraContainers[0].name=x,api.extraContainers[0].image=bad:1", is_expected_to_fail=True,
    )  # fmt: skip

    assert release.images() == {"one"}
    assert release.statuses()[-1] == "deployed"


def test_without_hooks_each_revision_has_a_migration_of_its_own(release: Release) -> None:
    release.install(*WAIT, "--set", "migrations.useHelmHooks=false")
    release.upgrade(*WAIT, "--set", "migrations.useHelmHooks=false")

    jobs = [name for name in release.written() if name.startswith("Job/tollwire-migrate-")]
    assert len(jobs) == len(set(jobs)) == 2, "a Job cannot be changed"


def test_the_server_refuses_what_a_real_one_refuses(release: Release) -> None:
    """Else the tests above would prove little."""
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "daat": {}}
    assert "daat" in release.kubectl.run(
        "apply", "--server-side", "-f", "-", stdin=json.dumps(manifest), is_expected_to_fail=True
    )
    release.install(*WAIT, "--set", "api.autoscaling.enabled=false")
    release.cluster.scale(NAMESPACE, "tollwire-worker", 7)
    if release.helm.tool.name == "helm4":
        said = release.upgrade("--set", "worker.replicas=3", is_expected_to_fail=True)
        assert ".spec.replicas" in said, "the field has another owner"
    (deployment,) = [
        one for name, one in release.cluster.objects("Deployment").items() if name.endswith("-dlr")
    ]
    deployment["spec"]["selector"]["matchLabels"]["a"] = "b"
    deployment["spec"]["template"]["metadata"]["labels"]["a"] = "b"
    assert "immutable" in release.kubectl.run(
        "replace", "-f", "-", stdin=json.dumps(deployment), is_expected_to_fail=True
    )


def test_helm_keeps_its_own_notes_readable(release: Release) -> None:
    """They come as protobuf: what we understood of them must be what Helm reads back."""
    release.install(*WAIT, "--set", "image.tag=one")
    values = json.loads(release.helm.run("get", "values", RELEASE, "-n", NAMESPACE, "-o", "json"))
    assert values["image"] == {"tag": "one"}
    found = release.kubectl.run("get", "secret", f"sh.helm.release.v1.{RELEASE}.v1", "-o", "json")
    assert base64.b64decode(json.loads(found)["data"]["release"])
