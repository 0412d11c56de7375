"""Renders the chart by a real Helm, for one of the value sets."""

import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import yaml

from tests.charts.tools import HELMS, Tool
from tests.charts.values_schema import CHART

RELEASE: Final = "tollwire"
NAMESPACE: Final = "sms"
HELM_SECONDS: Final = 60

# What a cluster with all operators says it knows.
APIS: Final = (
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "gateway.networking.k8s.io/v1",
    "postgresql.cnpg.io/v1",
)

# Each set of values by its name; cnpg is the big profile with what it leaves to the operator.
VALUE_SETS: Final[dict[str, tuple[str, ...]]] = {
    "minimal": ("ci/minimal.yaml",),
    "full": ("ci/full.yaml",),
    "gitops": ("ci/gitops.yaml",),
    "dev": ("values-dev.yaml",),
    "100m-a-day": ("values-100m-a-day.yaml", "ci/cnpg.yaml"),
}

HELM3, HELM4 = HELMS
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What a Helm said and how it ended."""

    status: int
    output: str
    errors: str


def helm(which: Tool, *arguments: str) -> Done:
    """Run a Helm."""
    done = subprocess.run(
        [which.program, *arguments], capture_output=True, text=True, timeout=HELM_SECONDS, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def template(which: Tool, files: tuple[str, ...], *more: str, apis: tuple[str, ...] = APIS) -> Done:
    """Render the chart with values files of the chart's folder and further arguments."""
    values = [word for file in files for word in ("--values", str(CHART / file))]
    known = [word for api in apis for word in ("--api-versions", api)]
    return helm(which, "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *values, *known, *more)


@cache
def rendered(name: str, which: Tool = HELM4, *more: str) -> tuple[Object, ...]:
    """Every object of a value set; do not change them."""
    done = template(which, VALUE_SETS[name], *more)
    assert done.status == 0, done.errors
    return tuple(found for found in yaml.safe_load_all(done.output) if found)


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [found for found in objects if found["kind"] in kinds]


def named(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    """The one of a kind and name."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def pod_of(found: Object) -> Object:
    """The pod's spec of a Deployment, a Job or a Pod."""
    spec: Object = found["spec"] if found["kind"] == "Pod" else found["spec"]["template"]["spec"]
    return spec


def pods(objects: tuple[Object, ...]) -> dict[str, Object]:
    """The pod's spec of everything that runs, by kind and name."""
    return {
        f"{found['kind']}/{found['metadata']['name']}": pod_of(found)
        for found in of_kind(objects, "Deployment", "Job", "Pod")
    }


def environment(pod: Object) -> dict[str, str | None]:
    """Names and values of a pod's first container; None: from a Secret."""
    return {one["name"]: one.get("value") for one in pod["containers"][0].get("env", [])}
