"""The `restricted` standard, as the namespace's label asks for it (as far as our pods could break it)."""

from collections.abc import Iterator
from typing import Any, Final

from tests.charts.kube.patches import Object

LABEL: Final = "pod-security.kubernetes.io/enforce"
RESTRICTED: Final = "restricted"
VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip


def violations(pod: Object) -> Iterator[str]:
    """Everything that the standard forbids, in words."""
    shared = pod.get("securityContext") or {}
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is set"
    for volume in pod.get("volumes", []):
        if not VOLUMES & set(volume):
            yield f"volume {volume['name']} is of a forbidden kind"
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        own = container.get("securityContext") or {}
        for why in _of_container(own, shared):
            yield f"container {container['name']}: {why}"


def _of_container(own: dict[str, Any], shared: dict[str, Any]) -> Iterator[str]:
    either = {**shared, **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation != false"
    if own.get("privileged"):
        yield "privileged"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "does not drop ALL capabilities"
    if not set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if either.get("runAsNonRoot") is not True or either.get("runAsUser") == 0:
        yield "may run as root"
    if (either.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
