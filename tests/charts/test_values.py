"""What the values may be: types and ranges by the schema, what belongs together by sentences."""

import pytest

from tests.charts.rendering import HELM3, HELM4, VALUE_SETS, named, pod_of, rendered, template
from tests.charts.tools import HELMS, Tool
from tests.charts.values_schema import load, rows

MINIMAL = VALUE_SETS["minimal"]


@pytest.mark.parametrize("which", HELMS, ids=["helm3", "helm4"])
@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("api.replicass=2", "replicass"),
        ("api.replicas=two", "replicas"),
        ("logLevel=loud", "logLevel"),
        ("worker.lanes={express,slow}", "lanes"),
        ("nats.url=http://nats:4222", "nats/url"),
        ("image.digest=sha256:abc", "digest"),
        ("worker.pools.a.lane=express", "lane"),
        ("worker.pools.a.podDisruptionBudget.enabled=false", "podDisruptionBudget"),
        ("valkey.url=redis://:secret@valkey:6379", "valkey/url"),
        ("defaults.terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_named(which: Tool, setting: str, complaint: str) -> None:
    done = template(which, MINIMAL, "--set", setting)
    assert done.status != 0
    assert complaint.replace("/", ".") in done.errors.replace("/", ".")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("postgresql.host=", "postgresql.host is empty"),
        ("postgresql.cnpg.enabled=true", "are both set: which one is it?"),
        ("postgresql.roles.worker.existingSecret=", "postgresql.roles.worker.existingSecret is empty"),
        ("postgresql.roles.migrate.existingSecret=", "postgresql.roles.migrate.existingSecret is empty"),
        ("nats.url=", "nats.url is empty"),
        ("nats.tokenKey=token", "nats.existingSecret is empty"),
        ("keyring.existingSecret=", "keyring.existingSecret is empty"),
        ("nats.existingSecret=nats,nats.tokenKey=token,nats.user=sms", "NATS takes one way to sign in"),
        ("valkey.url=redis://valkey,valkey.tls.mode=require", "valkey.url must begin with rediss"),
        ("defaults.poolMin=20", "defaults.poolMin is above poolMax"),
        ("simulator.enabled=true", "simulator.existingSecret is empty"),
        ("worker.keda.enabled=true", "nats.monitoringEndpoint is empty"),
        ("dlr.keda.enabled=true,dlr.keda.jetstream.enabled=false", "dlr.keda.enabled without a trigger"),
        ("api.autoscaling.minReplicas=20", "api.autoscaling.minReplicas is above maxReplicas"),
        ("worker.pools.main.lanes={express}", "worker.pools.main: the first Deployment has that name"),
        ("ledger.replicas=2", "ledger.persistence.accessModes must have ReadWriteMany"),
        ("ingress.enabled=true", "ingress.host is empty"),
        ("gateway.enabled=true", "gateway.parentRefs or gateway.hostnames is empty"),
    ],
)
def test_values_that_cannot_work_together_stop_with_a_sentence(settings: str, complaint: str) -> None:
    done = template(HELM4, MINIMAL, "--set", settings)
    assert done.status != 0
    assert complaint in done.errors


@pytest.mark.parametrize("which", HELMS, ids=["helm3", "helm4"])
def test_null_takes_a_word_back_and_in_both_places_means_none(which: Tool) -> None:
    """As values.yaml says: Helm takes a null of a chart's own value away before any template sees it."""
    limits = [
        container["resources"].get("limits")
        for settings in ('api={"resources":{"limits":null}}', 'defaults={"resources":{"limits":null}}')
        for container in pod_of(
            named(
                rendered("minimal", which, "--set-json", 'api={"resources":{"limits":null}}',
                         "--set-json", settings),
                "Deployment", "tollwire-api",
            )
        )["containers"]
    ]  # fmt: skip
    assert limits == [load()["defaults"]["resources"]["limits"], None]


def test_all_faults_are_told_at_once() -> None:
    done = template(HELM3, ())
    for missing in (
        "postgresql.host",
        "postgresql.roles.api.existingSecret",
        "nats.url",
        "keyring.existingSecret",
    ):
        assert f"{missing} is empty" in done.errors


def test_no_value_is_a_password() -> None:
    """Credentials come by reference: no setting of the chart holds one."""
    secret = ("password", "token", "secret", "credentials", "dsn")
    ends = ("Secret", "Key", "existingSecret", "passwordKey", "secretKey", "operatorKeySecret")
    suspects = [
        row.path
        for row in rows()
        if any(word in row.path.rpartition(".")[2].lower() for word in secret) and not row.path.endswith(ends)
    ]
    # By reference too, as Kubernetes and CloudNativePG write it.
    assert suspects == ["imagePullSecrets", "postgresql.cnpg.backup.credentials"]
    assert load()["postgresql"]["cnpg"]["backup"]["credentials"] == {}
