"""What a real server refuses: fields that no schema knows, and changes of what cannot be changed."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import kubernetes_validate

from tests.charts.kube.patches import Object
from tests.charts.kube.resources import BUILT_IN, Resource
from tests.charts.kube.store import Refused

# The newest that the validator knows; the chart says which one it needs at least.
KUBERNETES: Final = "1.34"
# What cannot be changed once it is there.
FIXED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "Deployment": (("spec", "selector"),),
    "StatefulSet": (("spec", "selector"), ("spec", "serviceName"), ("spec", "volumeClaimTemplates")),
    "Job": (("spec", "template"), ("spec", "selector"), ("spec", "completions")),
    "PersistentVolumeClaim": (("spec", "accessModes"), ("spec", "storageClassName")),
}
Check = Callable[[Resource, Object, Object | None], None]


def check(resource: Resource, new: Object, old: Object | None) -> None:
    """Refuse an object as the API server's validation would.

    Raises:
        Refused: 400 for a wrong or unknown field, 422 for a change of a fixed one.
    """
    if resource in BUILT_IN and resource.kind != "Event":
        _check_schema(new)
    for path in FIXED.get(resource.kind, ()) if old else ():
        if _at(old, path) != _at(new, path):
            field = ".".join(path)
            raise Refused(
                422, "Invalid",
                f'{resource.kind}.{resource.group} "{new["metadata"]["name"]}" is invalid: '
                f"{field}: Invalid value: field is immutable",
            )  # fmt: skip


def _check_schema(new: Object) -> None:
    judged = copy.deepcopy(new)
    judged.pop("status", None)
    try:
        kubernetes_validate.validate(judged, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(400, "BadRequest", f"strict decoding error: {error.message}") from error


def _at(found: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        found = (found or {}).get(step)
    return found
