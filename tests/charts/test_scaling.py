"""What scales: the api by CPU, workers and dlr by work that may be done, and nothing by two hands."""

import re

import pytest

from shared.runtime.streams import STREAMS
from tests.charts.rendering import HELM4, VALUE_SETS, Object, environment, named, of_kind, pod_of, rendered
from tests.charts.values_schema import CHART
from worker import consume
from worker.lines import BUNDLES_MAX

FULL, BIG = rendered("full"), rendered("100m-a-day")


def scaled_by_something(objects: tuple[Object, ...]) -> set[str]:
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    return {one["spec"]["scaleTargetRef"]["name"] for one in scalers}


@pytest.mark.parametrize("name", VALUE_SETS)
def test_what_something_scales_has_no_replicas_of_its_own(name: str) -> None:
    """With Helm 4 the two would meet in server-side apply, and the upgrade would fail."""
    objects = rendered(name)
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in scalers]
    assert len(targets) == len(set(targets))
    for deployment in of_kind(objects, "Deployment"):
        is_left_open = deployment["metadata"]["name"] in targets or name == "gitops"
        if deployment["metadata"]["name"].endswith(("-ledger", "-simulator")) and name == "gitops":
            continue
        assert ("replicas" not in deployment["spec"]) == is_left_open, deployment["metadata"]["name"]
    assert set(targets) <= {one["metadata"]["name"] for one in of_kind(objects, "Deployment")}


def test_each_lane_has_its_trigger_and_each_trigger_its_consumer() -> None:
    lanes: list[str] = []
    for name in ("tollwire-worker", "tollwire-worker-express"):
        scaled = named(BIG, "ScaledObject", name)
        triggers = [one for one in scaled["spec"]["triggers"] if one["type"] == "nats-jetstream"]
        served = environment(pod_of(named(BIG, "Deployment", name)))["TOLLWIRE_LANES"]
        assert served is not None
        assert [one["metadata"]["consumer"] for one in triggers] == [
            f"worker-{lane}" for lane in served.split(",")
        ]
        assert {one["metadata"]["stream"] for one in triggers} == {consume.STREAM}
        lanes += served.split(",")
    assert sorted(lanes) == ["bulk", "express", "normal"]
    dlr = named(BIG, "ScaledObject", "tollwire-dlr")["spec"]["triggers"][0]["metadata"]
    assert (dlr["stream"], dlr["consumer"]) == ("SMS_RECEIPT", "dlr")
    assert {consume.STREAM, "SMS_RECEIPT"} <= {stream.name for stream in STREAMS}


def test_what_waits_for_one_slow_carrier_adds_no_pods() -> None:
    """More pods would let more wait, and more pods would be wanted for that."""
    for name in VALUE_SETS:
        for scaled in of_kind(rendered(name), "ScaledObject"):
            for trigger in scaled["spec"]["triggers"]:
                about = trigger["metadata"]
                if about.get("consumer", "").startswith("worker-"):
                    assert int(about["lagThreshold"]) > BUNDLES_MAX, (name, about["consumer"])


def test_what_stops_all_sending_names_every_pool_of_workers() -> None:
    text = (CHART.parents[1] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    draining = text.partition("## Draining")[2].partition("\n## ")[0]
    label = "app.kubernetes.io/component"
    for kind, command in (("Deployment", "scale deployment"), ("ScaledObject", "annotate scaledobject")):
        assert set(re.findall(rf"{command} (-l )?(\S+)", draining)) == {("-l ", f"{label}=worker")}
        workers = [one for one in of_kind(BIG, kind) if one["metadata"]["labels"][label] == "worker"]
        assert {one["metadata"]["name"] for one in workers} == {"tollwire-worker", "tollwire-worker-express"}


def test_a_question_to_prometheus_is_asked_for_each_lane() -> None:
    triggers = named(FULL, "ScaledObject", "sms-worker")["spec"]["triggers"]
    asked = [one["metadata"]["query"] for one in triggers if one["type"] == "prometheus"]
    assert len(asked) == 3
    assert all(f'"{lane}"' in query for lane, query in zip(("express", "normal", "bulk"), asked, strict=True))
    assert all(isinstance(value, str) for one in triggers for value in one["metadata"].values())


def test_the_big_profile_asks_prometheus_beside_jetstream() -> None:
    """One trigger of each kind a lane, so that KEDA still sees work when one of the two cannot be read."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for scaled in of_kind(BIG, "ScaledObject"):
        triggers = scaled["spec"]["triggers"]
        questions = [one["metadata"] for one in triggers if one["type"] == "prometheus"]
        asked[scaled["metadata"]["name"]] = [(one["query"], one["threshold"]) for one in questions]
        assert len(questions) == len([one for one in triggers if one["type"] == "nats-jetstream"])
        # An empty answer is a failure and leads to the fallback; it is not "no work".
        assert all(one["ignoreNullValues"] == "false" for one in questions)
        assert all(one["serverAddress"].startswith("http") for one in questions)
    work = 'max(tollwire_dispatchable_messages{{lane="{}"}})'
    assert asked == {
        "tollwire-worker": [(work.format("normal"), "2000"), (work.format("bulk"), "2000")],
        "tollwire-worker-express": [(work.format("express"), "800")],
        "tollwire-dlr": [("max(tollwire_receipts_waiting)", "2000")],
    }


@pytest.mark.parametrize(
    ("triggers", "has_fallback"),
    [
        ('[{"type":"cpu","metricType":"Utilization","metadata":{"value":"70"}}]', False),
        ('[{"type":"memory","metricType":"AverageValue","metadata":{"value":"1Gi"}}]', False),
        ('[{"type":"cron","metricType":"Value","metadata":{"desiredReplicas":"10"}}]', False),
        ('[{"type":"cron","metadata":{"desiredReplicas":"10"}}]', True),
        (
            '[{"type":"cpu","metadata":{"value":"70"}},{"type":"cron","metadata":{"desiredReplicas":"9"}}]',
            True,
        ),
    ],
)
def test_a_fallback_stands_only_where_keda_takes_one(triggers: str, has_fallback: bool) -> None:
    """Its webhook wants a trigger that is not CPU or memory and counts by AverageValue, the default."""
    settings = (
        "--set-json", f"dlr.keda.extraTriggers={triggers}",
        "--set", "dlr.keda.jetstream.enabled=false,dlr.keda.prometheus.enabled=false",
    )  # fmt: skip
    scaled = named(rendered("100m-a-day", HELM4, *settings), "ScaledObject", "tollwire-dlr")
    assert ("fallback" in scaled["spec"]) is has_fallback


def test_each_fallback_of_the_value_sets_rests_on_a_trigger_that_may_have_one() -> None:
    for name in VALUE_SETS:
        for scaled in of_kind(rendered(name), "ScaledObject"):
            kinds = {one["type"] for one in scaled["spec"]["triggers"]}
            assert "fallback" in scaled["spec"]
            assert kinds - {"cpu", "memory"}, (name, scaled["metadata"]["name"])


def test_scaling_never_ends_at_nothing_and_goes_down_slowly() -> None:
    for scaled in of_kind(BIG, "ScaledObject"):
        spec = scaled["spec"]
        assert spec["minReplicaCount"] >= 2
        assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
        assert spec["advanced"]["restoreToOriginalReplicaCount"] is False
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] == 300


def test_the_profile_of_100_million_a_day_has_ten_to_fifty_of_api_and_worker() -> None:
    (api,) = of_kind(BIG, "HorizontalPodAutoscaler")
    assert (api["spec"]["minReplicas"], api["spec"]["maxReplicas"]) == (10, 50)
    assert api["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    workers = [
        named(BIG, "ScaledObject", name)["spec"] for name in ("tollwire-worker", "tollwire-worker-express")
    ]
    assert sum(one["minReplicaCount"] for one in workers) == 10
    assert sum(one["maxReplicaCount"] for one in workers) == 50
