"""What a client asks first: which groups and kinds are there, and can fields be validated."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from tests.charts.kube.resources import Resource

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
OPENAPI: Final = "openapi/v3"


def answer(path: str, resources: Sequence[Resource], version: str) -> Mapping[str, Any] | None:
    """Return the document of a path of discovery; None: it is no such path."""
    if path == "version":
        major, minor = version.split(".")
        return {"major": major, "minor": minor, "gitVersion": f"v{version}.0"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "apis":
        return _groups(resources)
    if path == OPENAPI:
        roots = {one.root: {"serverRelativeURL": f"/{OPENAPI}/{one.root}?hash=1"} for one in resources}
        return {"paths": roots}
    if path.startswith(OPENAPI):
        return _openapi([one for one in resources if one.root == path.removeprefix(OPENAPI + "/")])
    mine = [one for one in resources if one.root == path]
    return _kinds(mine) if mine else None


def _groups(resources: Iterable[Resource]) -> Mapping[str, Any]:
    named = sorted({(one.group, one.version) for one in resources if one.group})
    groups = []
    for group, pairs in groupby(named, key=lambda pair: pair[0]):
        versions = [{"groupVersion": f"{group}/{version}", "version": version} for _, version in pairs]
        groups.append({"name": group, "versions": versions, "preferredVersion": versions[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _kinds(resources: Sequence[Resource]) -> Mapping[str, Any]:
    found = [
        {
            "name": one.plural,
            "singularName": one.kind.lower(),
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": VERBS,
            "shortNames": {"Namespace": ["ns"], "Deployment": ["deploy"], "Service": ["svc"]}.get(
                one.kind, []
            ),
            "categories": ["all"] if one.kind in ("Pod", "Service", "Deployment", "Job") else [],
        }
        for one in resources
    ]
    group_version = resources[0].group_version
    return {
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found,
    }  # fmt: skip


def _openapi(resources: Iterable[Resource]) -> Mapping[str, Any]:
    """As much as tells a client that the server validates fields by itself."""
    asked = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    paths = {}
    for one in resources:
        kind = {"group": one.group, "version": one.version, "kind": one.kind}
        place = "namespaces/{namespace}/" if one.namespaced else ""
        paths[f"/{one.root}/{place}{one.plural}/{{name}}"] = {
            "patch": {
                "operationId": f"patch{one.kind}",
                "parameters": asked,
                "responses": {},
                "x-kubernetes-group-version-kind": kind,
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "fake", "version": "1"}, "paths": paths}
