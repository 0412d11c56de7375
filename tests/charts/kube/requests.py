"""What a request says and an answer looks like, apart from HTTP."""

from collections.abc import Mapping
from typing import Any

import yaml
from aiohttp import web

from tests.charts.kube import protobuf
from tests.charts.kube.patches import Object
from tests.charts.kube.store import Key, Refused


def scale_of(found: Object) -> Mapping[str, Any]:
    """The subresource by which autoscalers and `kubectl scale` see it."""
    metadata = {name: found["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    replicas = found["spec"].get("replicas", 1)
    return {
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": replicas}, "status": {"replicas": replicas},
    }  # fmt: skip


def parsed(body: bytes) -> Object:
    """The object of a body: protobuf, JSON or YAML."""
    if body.startswith(protobuf.MAGIC):
        return protobuf.decode(body)
    found: Object = yaml.safe_load(body)
    return found


def kept_by_server(new: Object, old: Object | None) -> Object:
    """A replacement keeps the status, which has a door of its own."""
    if old is not None and "status" in old:
        new["status"] = old["status"]
    return new


def defaulted(key: Key, found: Object) -> Object:
    """What the server fills in and clients wait for."""
    if key.resource.kind == "Service" and found["spec"].get("type") != "ExternalName":
        found["spec"].setdefault("clusterIP", "10.96.0.1")
    return found


def is_asked(found: Object, request: web.Request) -> bool:
    """True when the selectors of a list or a watch take it."""
    labels = found["metadata"].get("labels") or {}
    for term in filter(None, request.query.get("labelSelector", "").split(",")):
        name, equals, value = term.replace("==", "=").partition("=")
        if equals and not name.endswith("!") and labels.get(name) != value:
            return False
    for term in filter(None, request.query.get("fieldSelector", "").split(",")):
        name, _, value = term.replace("==", "=").partition("=")
        if name == "metadata.name" and found["metadata"]["name"] != value:
            return False
    return True


def status(refused: Refused) -> Mapping[str, Any]:
    """A refusal as clients want it."""
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": refused.reason, "message": refused.message, "code": refused.code,
    }  # fmt: skip
