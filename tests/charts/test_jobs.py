"""Migration and bootstrap: hooks where Helm runs them, Jobs of their own where something else does."""

import pytest

from tests.charts.rendering import HELM4, VALUE_SETS, environment, named, of_kind, pod_of, rendered

HOOK = "helm.sh/hook"


def hooks(name: str, *more: str) -> dict[str, str]:
    """Every Job with the hooks that it is, by name."""
    return {
        one["metadata"]["name"]: one["metadata"].get("annotations", {}).get(HOOK, "")
        for one in of_kind(rendered(name, HELM4, *more), "Job")
    }


def test_the_schema_comes_before_and_what_begins_with_it_after_everything() -> None:
    assert hooks("minimal") == {
        "tollwire-migrate": "pre-install,pre-upgrade",
        "tollwire-bootstrap": "post-install,post-upgrade",
    }


@pytest.mark.parametrize(
    "changed",
    ["image.tag=0.2.0", "logLevel=debug", "commonLabels.team=sms", "postgresql.readLagMaxSeconds=9",
     "migrations.resources.limits.memory=1Gi", "bootstrap.defaultRates=true", "api.replicas=7"],
)  # fmt: skip
def test_without_hooks_no_job_is_changed_but_another_made(changed: str) -> None:
    """Pods of a Job cannot be changed: the same name with other pods would stop a sync."""
    before = {job["metadata"]["name"]: job["spec"]["template"] for job in of_kind(rendered("gitops"), "Job")}
    after = {
        job["metadata"]["name"]: job["spec"]["template"]
        for job in of_kind(rendered("gitops", HELM4, "--set", changed), "Job")
    }
    assert len(before) == len(after) == 2
    assert {name: after[name] for name in before.keys() & after} == {
        name: before[name] for name in before.keys() & after
    }
    if changed == "image.tag=0.2.0":
        assert not before.keys() & after
    if changed == "api.replicas=7":
        assert before == after


def test_without_hooks_jobs_stay_with_the_release_and_have_their_own_place_in_a_sync() -> None:
    """What removes itself is made again by a controller that compares, and run again, each day."""
    assert set(hooks("gitops").values()) == {""}
    jobs = of_kind(rendered("gitops"), "Job")
    assert not [job for job in jobs if "ttlSecondsAfterFinished" in job["spec"]]
    assert [job["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] for job in jobs] == ["-1", "1"]
    passing = of_kind(rendered("gitops", HELM4, "--set", "migrations.ttlSecondsAfterFinished=60"), "Job")
    assert [job["spec"]["ttlSecondsAfterFinished"] for job in passing] == [60, 60]


def test_a_database_of_the_same_release_is_migrated_beside_it_first_and_before_it_later() -> None:
    """At the first installation there is no database yet that a hook could reach."""
    first = hooks("100m-a-day")
    assert [hook for name, hook in first.items() if name.startswith("tollwire-migrate-")] == [""]
    later = hooks("100m-a-day", "--is-upgrade")
    assert later["tollwire-migrate"] == "pre-upgrade"


@pytest.mark.parametrize("name", VALUE_SETS)
def test_a_hook_needs_nothing_that_the_release_makes(name: str) -> None:
    """What is no hook is not there yet when a hook of the first installation runs."""
    objects = rendered(name)
    made = {
        (one["kind"], one["metadata"]["name"])
        for one in objects
        if HOOK not in one["metadata"].get("annotations", {})
    }
    for job in of_kind(objects, "Job"):
        if HOOK not in job["metadata"].get("annotations", {}):
            continue
        pod = pod_of(job)
        used = {("Secret", one["secret"]["secretName"]) for one in pod["volumes"] if "secret" in one}
        used |= {
            ("Secret", one["valueFrom"]["secretKeyRef"]["name"])
            for one in pod["containers"][0]["env"]
            if "valueFrom" in one
        }
        assert not used & made
        assert "serviceAccountName" not in pod
        assert "envFrom" not in pod["containers"][0]


def test_migrations_go_past_a_pooler_and_reads_to_a_replica() -> None:
    objects = rendered("full")
    migrate = environment(pod_of(named(objects, "Job", "sms-migrate")))
    api = environment(pod_of(named(objects, "Deployment", "sms-api")))
    assert migrate["TOLLWIRE_MIGRATE_DSN"] == "postgresql://tollwire_migrate@primary.db.svc:5432/tollwire"
    assert api["TOLLWIRE_POSTGRES_DSN"] == "postgresql://tollwire_api@pooler.db.svc:6432/tollwire"
    assert api["TOLLWIRE_POSTGRES_READ_DSN"] == (
        "postgresql://tollwire_api@replica-0.db.svc:5433,replica-1.db.svc:5433/tollwire"
    )
    assert "TOLLWIRE_POSTGRES_READ_DSN" not in environment(pod_of(named(objects, "Deployment", "sms-worker")))


def test_a_pooler_on_the_same_host_is_passed_by_its_port() -> None:
    settings = ("--set", "postgresql.port=6432,postgresql.migratePort=5432")
    (migrate, _) = of_kind(rendered("minimal", HELM4, *settings), "Job")
    assert environment(pod_of(migrate))["TOLLWIRE_MIGRATE_DSN"] == (
        "postgresql://tollwire_migrate@postgres.db.svc:5432/tollwire"
    )


def test_with_cloudnativepg_each_asks_the_service_that_is_for_it() -> None:
    objects = rendered("100m-a-day")
    (migrate,) = [one for one in of_kind(objects, "Job") if "migrate" in one["metadata"]["name"]]
    api = environment(pod_of(named(objects, "Deployment", "tollwire-api")))
    assert environment(pod_of(migrate))["TOLLWIRE_MIGRATE_DSN"] == (
        "postgresql://tollwire_migrate@tollwire-postgres-rw:5432/tollwire"
    )
    assert api["TOLLWIRE_POSTGRES_DSN"] == "postgresql://tollwire_api@tollwire-postgres-pooler:5432/tollwire"
    assert api["TOLLWIRE_POSTGRES_READ_DSN"] == "postgresql://tollwire_api@tollwire-postgres-ro:5432/tollwire"


def test_no_volume_of_money_goes_with_the_release() -> None:
    for kind, name in (("Cluster", "tollwire-postgres"), ("PersistentVolumeClaim", "tollwire-ledger")):
        kept = named(rendered("100m-a-day"), kind, name)["metadata"]["annotations"]
        assert kept["helm.sh/resource-policy"] == "keep"


def test_helm_test_asks_every_service() -> None:
    pod = named(rendered("minimal"), "Pod", "tollwire-test")
    assert pod["metadata"]["annotations"][HOOK] == "test"
    command = pod["spec"]["containers"][0]["command"]
    assert command[:3] == ["python3", "-m", "cli.ask"]
    services = {one["metadata"]["name"]: one for one in of_kind(rendered("minimal"), "Service")}
    for url in command[3:]:
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        assert int(port) in [one["port"] for one in services[host]["spec"]["ports"]]
    assert len(command) == 3 + 5
