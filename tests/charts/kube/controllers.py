"""What controllers and kubelets would make of an object, at once: ready, done, or stuck for a reason."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.charts.kube import pod_security
from tests.charts.kube.patches import Object
from tests.charts.kube.pod_security import RESTRICTED
from tests.charts.kube.resources import Resource
from tests.charts.kube.store import CREATED_AT, Key, Store

MOVED: Final = {"Deployment", "StatefulSet", "Job", "Pod", "PersistentVolumeClaim", "Cluster"}
OPERATOR: Final = "cnpg-controller-manager"
DEFAULT_ACCOUNT: Final = "default"


class Controllers:
    """Looks at everything that has pods or waits for a volume, after each write.

    Args:
        resources: every kind, by name.
    """

    def __init__(self, store: Store, resources: dict[str, Resource]) -> None:
        self._store = store
        self._resources = resources
        # Words of a container's command or image: pods that have one fail.
        self.failing: set[str] = set()

    def run_once(self) -> None:
        """Bring all statuses up to date."""
        # What an operator makes may be what a pod waits for: clusters first.
        moved = [key for key in self._store.objects if key.resource.kind in MOVED]
        for key in sorted(moved, key=lambda key: key.resource.kind != "Cluster"):
            found = self._store.objects.get(key)
            if found is not None:
                getattr(self, f"_{key.resource.kind.lower()}")(key, found)

    def stuck_because(self, key: Key, found: Object) -> list[str]:
        """What the pods of an object wait for, in words; empty when they would run."""
        pod = pod_of(found)
        account = pod.get("serviceAccountName", DEFAULT_ACCOUNT)
        wanted = list(_references(pod))
        if account != DEFAULT_ACCOUNT:
            wanted.append(("ServiceAccount", account, None))
        missing = [why for one in wanted if (why := self._missing(key.namespace, *one))]
        return missing + [f"violates PodSecurity: {why}" for why in self._forbidden(key.namespace, pod)]

    def _forbidden(self, namespace: str, pod: Object) -> list[str]:
        here = self._store.objects.get(Key(self._resources["Namespace"], "", namespace), {"metadata": {}})
        labels = here["metadata"].get("labels") or {}
        return list(pod_security.violations(pod)) if labels.get(pod_security.LABEL) == RESTRICTED else []

    def _missing(self, namespace: str, kind: str, name: str, field: str | None) -> str:
        there = self._store.objects.get(Key(self._resources[kind], namespace, name))
        if there is None:
            return f"{kind} {name!r} is not there"
        held = {**there.get("data", {}), **there.get("stringData", {}), **there.get("binaryData", {})}
        return f"{kind} {name!r} has no {field!r}" if field and field not in held else ""

    def _fails(self, found: Object) -> bool:
        containers = pod_of(found).get("containers", [])
        words = [
            word
            for one in containers
            for word in (one.get("image", ""), *one.get("command", []), *one.get("args", []))
        ]
        return any(failing in word for failing in self.failing for word in words)

    def _deployment(self, key: Key, found: Object) -> None:
        self._replica_set(key, found)
        wanted = found["spec"].setdefault("replicas", 1)
        is_ready = not self._fails(found) and not self.stuck_because(key, found)
        ready, reason = (wanted, "NewReplicaSetAvailable") if is_ready else (0, "")
        self._store.set_status(key, {
            "observedGeneration": found["metadata"]["generation"], "replicas": wanted,
            "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready,
            "unavailableReplicas": wanted - ready,
            "conditions": [
                _condition("Available", is_ready=is_ready),
                {"type": "Progressing", "status": "True", "reason": reason},
            ],
        })  # fmt: skip

    def _replica_set(self, key: Key, found: Object) -> None:
        """The one of the present template: Helm 3 looks for it."""
        template = found["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        mine = Key(self._resources["ReplicaSet"], key.namespace, f"{key.name}-{digest}")
        replicas = found["spec"].get("replicas", 1)
        is_ready = not self._fails(found) and not self.stuck_because(key, found)
        if mine not in self._store.objects:
            labels = {**template["metadata"].get("labels", {}), "pod-template-hash": digest}
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": key.name,
                     "uid": found["metadata"]["uid"], "controller": True}  # fmt: skip
            spec = {"replicas": replicas, "selector": found["spec"]["selector"], "template": template}
            metadata = {"name": mine.name, "labels": labels, "ownerReferences": [owner]}
            self._store.put(mine, {"metadata": metadata, "spec": spec}, "kube-controller-manager")
        ready = replicas if is_ready else 0
        generation = self._store.objects[mine]["metadata"]["generation"]
        self._store.set_status(mine, {
            "replicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
            "fullyLabeledReplicas": ready, "observedGeneration": generation,
        })  # fmt: skip

    def _statefulset(self, key: Key, found: Object) -> None:
        wanted = found["spec"].get("replicas", 1)
        ready = 0 if self._fails(found) or self.stuck_because(key, found) else wanted
        self._store.set_status(key, {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted, "readyReplicas": ready, "updatedReplicas": wanted, "currentReplicas": wanted,
            "currentRevision": "1", "updateRevision": "1",
        })  # fmt: skip

    def _persistentvolumeclaim(self, key: Key, _: Object) -> None:
        self._store.set_status(key, {"phase": "Bound"})

    def _cluster(self, key: Key, _: Object) -> None:
        """What CloudNativePG leaves for the services: the authority of its certificates."""
        authority = Key(self._resources["Secret"], key.namespace, f"{key.name}-ca")
        if authority not in self._store.objects:
            self._store.put(authority, {"data": {"ca.crt": "", "ca.key": ""}}, OPERATOR)
        ready = [_condition("Ready", is_ready=True), _condition("ContinuousArchiving", is_ready=True)]
        self._store.set_status(key, {"phase": "Cluster in healthy state", "conditions": ready})

    def _job(self, key: Key, found: Object) -> None:
        if self.stuck_because(key, found):
            return
        has_failed = self._fails(found)
        status: dict[str, Any] = {
            "startTime": CREATED_AT,
            "failed" if has_failed else "succeeded": 1,
            "conditions": [_condition("Failed" if has_failed else "Complete", is_ready=True)],
        }
        if has_failed:
            status["conditions"][0]["reason"] = "BackoffLimitExceeded"
        else:
            status["completionTime"] = CREATED_AT
        self._store.set_status(key, status)

    def _pod(self, key: Key, found: Object) -> None:
        if self.stuck_because(key, found):
            self._store.set_status(key, {"phase": "Pending"})
            return
        does_stay = pod_of(found)["containers"][0].get("command", [])[:1] == ["sleep"]
        phase = "Failed" if self._fails(found) else "Running" if does_stay else "Succeeded"
        ready = _condition("Ready", is_ready=phase == "Running")
        self._store.set_status(key, {"phase": phase, "conditions": [ready]})


def pod_of(found: Object) -> Object:
    """The pod's specification inside an object."""
    spec: Object = found["spec"]
    for step in ("jobTemplate", "spec", "template", "spec"):
        spec = spec.get(step, spec)
    return spec


def _condition(kind: str, *, is_ready: bool) -> Object:
    return {"type": kind, "status": "True" if is_ready else "False", "reason": "", "message": ""}


def _references(pod: Object) -> Iterator[tuple[str, str, str | None]]:
    """Every Secret and ConfigMap that must be there before a container starts, and the key of it."""
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        for one in container.get("envFrom", []):
            yield from _required((("Secret", one.get("secretRef")), ("ConfigMap", one.get("configMapRef"))))
        for one in container.get("env", []):
            source = one.get("valueFrom", {})
            yield from _required(
                (("Secret", source.get("secretKeyRef")), ("ConfigMap", source.get("configMapKeyRef")))
            )
    for volume in pod.get("volumes", []):
        secret = volume.get("secret")
        named = secret and {**secret, "name": secret["secretName"]}
        yield from _required((("Secret", named), ("ConfigMap", volume.get("configMap"))))
        for one in volume.get("projected", {}).get("sources", []):
            yield from _required((("Secret", one.get("secret")), ("ConfigMap", one.get("configMap"))))


def _required(references: Sequence[tuple[str, Object | None]]) -> Iterator[tuple[str, str, str | None]]:
    for kind, reference in references:
        if not reference or reference.get("optional"):
            continue
        keys = [item["key"] for item in reference.get("items", [])] or [reference.get("key")]
        for key in keys:
            yield kind, reference["name"], key
