"""Connections to PostgreSQL: what all pods may open at once, and what the server has to give."""

import math
import re

import pytest

from tests.charts.rendering import (
    HELM4,
    VALUE_SETS,
    Object,
    environment,
    named,
    of_kind,
    pod_of,
    rendered,
    template,
)
from tests.charts.test_notes import notes

# TollwirePostgresConnectionsSaturated, in charts/tollwire/rules.
ALERT_SHARE = 0.8
BIG = rendered("100m-a-day")
CNPG = "postgresql.host=,postgresql.cnpg.enabled=true"
POOLER = "postgresql.cnpg.pooler"
KEDA = (
    "nats.monitoringEndpoint=nats-headless.nats.svc.cluster.local:8222,"
    "worker.keda.enabled=true,dlr.keda.enabled=true"
)


def surge(deployment: Object, pods: int) -> int:
    """How many pods a rollout adds to a Deployment's: a share is rounded up."""
    strategy = deployment["spec"]["strategy"]
    if strategy["type"] == "Recreate":
        return 0
    most = strategy["rollingUpdate"]["maxSurge"]
    return math.ceil(pods * int(most.rstrip("%")) / 100) if isinstance(most, str) else int(most)


def connections_at_most(objects: tuple[Object, ...]) -> int:
    """Every Deployment at its most, all of them replaced at once."""
    most = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"].get("maxReplicas")
        or one["spec"]["maxReplicaCount"]
        for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    }
    wanted = 0
    for deployment in of_kind(objects, "Deployment"):
        pool = int(environment(pod_of(deployment)).get("TOLLWIRE_POSTGRES_POOL_MAX") or 0)
        pods = most.get(deployment["metadata"]["name"]) or deployment["spec"].get("replicas", 1)
        wanted += pool * (pods + surge(deployment, pods))
    return wanted


def has(objects: tuple[Object, ...]) -> int:
    """What the database of the chart has to give."""
    (cluster,) = of_kind(objects, "Cluster")
    return int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])


def test_the_big_profile_fits_and_a_rollout_at_the_peak_wakes_nobody() -> None:
    """Without its pooler too. A quarter of 50, 35, 15 and 20, each rounded up: the share is really there."""
    names = {"tollwire-api": 50, "tollwire-worker": 35, "tollwire-worker-express": 15, "tollwire-dlr": 20}
    surging = [surge(named(BIG, "Deployment", name), pods) for name, pods in names.items()]
    assert surging == [13, 9, 4, 5]
    assert connections_at_most(BIG) < ALERT_SHARE * has(BIG)


def test_the_maxima_of_the_defaults_fit_into_the_database_of_the_defaults() -> None:
    objects = rendered("minimal", HELM4, "--set", f"{CNPG},{KEDA}")
    assert connections_at_most(objects) == 10 * (13 + 25 + 25 + 1)
    assert connections_at_most(objects) <= ALERT_SHARE * has(objects)


@pytest.mark.parametrize("given", ["", "512"])
def test_the_database_of_the_chart_has_locks_for_all_partitions(given: str) -> None:
    """Unless the values say otherwise."""
    name = "postgresql.cnpg.parameters.max_locks_per_transaction"
    own = ("--set-string", f"{name}={given}") if given else ()
    (cluster,) = of_kind(rendered("minimal", HELM4, "--set", CNPG, *own), "Cluster")
    assert cluster["spec"]["postgresql"]["parameters"]["max_locks_per_transaction"] == (given or "256")


@pytest.mark.parametrize(
    ("settings", "wanted", "given"),
    [
        (f"{KEDA},worker.keda.maxReplicaCount=40", 890, 800),
        (f"{KEDA},defaults.poolMax=20", 1280, 800),
        ("worker.replicas=60", 920, 800),
        ("worker.pools.express.lanes={express},worker.pools.express.replicas=55", 890, 800),
        ("api.strategy.rollingUpdate.maxSurge=70", 870, 800),
        # Each role has a pool of its own in each pod of PgBouncer, which no more pods of a service go beyond.
        (
            f"worker.replicas=99,{POOLER}.enabled=true,{POOLER}.instances=7,{POOLER}.defaultPoolSize=100",
            130 + 700 + 30 + 10,
            800,
        ),
    ],
)
def test_more_connections_than_the_server_has_are_refused_and_counted(
    settings: str, wanted: int, given: int
) -> None:
    done = template(HELM4, VALUE_SETS["minimal"], "--set", f"{CNPG},{settings}")
    assert done.status != 0
    told = re.search(r"max_connections=(\d+).*?(\d+) connections", done.errors.replace("\n", " "))
    assert told is not None, done.errors
    assert (int(told[2]), int(told[1])) == (wanted, given)
    assert "those that end in it hold theirs too" in done.errors, "which the sum has not"


@pytest.mark.parametrize(
    "settings",
    [
        ("--set", "worker.replicas=60", "--set-string", "postgresql.cnpg.parameters.max_connections=940"),
        ("--set", "worker.replicas=60,worker.poolMax=5"),
        ("--set", "worker.replicas=60,postgresql.cnpg.pooler.enabled=true"),
        ("--set", "worker.replicas=55,api.autoscaling.enabled=false"),
    ],
)
def test_what_fits_is_let_through(settings: tuple[str, ...]) -> None:
    done = template(HELM4, VALUE_SETS["minimal"], "--set", CNPG, *settings)
    assert done.status == 0, done.errors


@pytest.mark.parametrize("name", ["minimal", "full", "gitops", "dev"])
def test_who_has_a_server_of_their_own_is_told_how_many_there_may_be(name: str) -> None:
    assert f"max_connections of PostgreSQL: the pods may open {connections_at_most(rendered(name))}" in notes(
        name
    )
