"""Custom resources have the form that their definitions want."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.charts.rendering import HELM4, VALUE_SETS, Object, of_kind, rendered
from tests.charts.tools import models

HERE = Path(__file__).parent
CNPG: dict[str, Any] = json.loads((HERE / "cnpg.json").read_text())
MODELLED = ("ScaledObject", "ServiceMonitor", "PrometheusRule", "HTTPRoute")


def told_by_models(objects: list[Object]) -> list[str]:
    """A line for each object: ok or fault."""
    done = subprocess.run(
        ["node", HERE / "validate_models.mjs"],
        cwd=models(),
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def faults_of_cnpg(found: Object) -> list[str]:
    """What the schema of its kind says against a resource of CloudNativePG."""
    schema = {**CNPG[found["kind"]], "definitions": CNPG["definitions"]}
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(found["spec"])]


def test_custom_resources_are_as_their_definitions_want_them() -> None:
    objects = [one for name in VALUE_SETS for one in of_kind(rendered(name), *MODELLED)]
    assert {one["kind"] for one in objects} == set(MODELLED)
    told = told_by_models(objects)
    assert len(told) == len(objects)
    assert [line for line in told if not line.startswith("ok ")] == []


def test_a_resource_of_another_form_is_a_fault() -> None:
    scaled = json.loads(json.dumps(of_kind(rendered("full"), "ScaledObject")[0]))
    scaled["spec"]["maxReplicaCount"] = "40"
    (told,) = told_by_models([scaled])
    assert told.startswith("fault ScaledObject/")


@pytest.mark.parametrize(
    "more",
    [(), ("method=plugin", "objectStoreName=books"), ("method=volumeSnapshot", "volumeSnapshotClass=fast")],
)
def test_resources_of_cloudnativepg_have_no_field_that_it_does_not_know(more: tuple[str, ...]) -> None:
    settings = [word for one in more for word in ("--set", f"postgresql.cnpg.backup.{one}")]
    objects = of_kind(rendered("100m-a-day", HELM4, *settings), "Cluster", "Pooler", "ScheduledBackup")
    assert [one["kind"] for one in objects] == ["Cluster", "Pooler", "ScheduledBackup"]
    assert {one["kind"]: faults_of_cnpg(one) for one in objects} == {
        "Cluster": [],
        "Pooler": [],
        "ScheduledBackup": [],
    }
