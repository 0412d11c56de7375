"""The objects, who owns which field of them, and who watches."""

import asyncio
import copy
import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.charts.kube.patches import Object, Path, leaves, remove_leaf, set_leaf
from tests.charts.kube.resources import Resource

CREATED_AT: Final = "2026-01-01T00:00:00Z"
# Fields that the server itself writes: nobody owns them.
SERVERS_OWN: Final = {("status",), ("metadata",), ("apiVersion",), ("kind",)}


class Refused(Exception):  # noqa: N818 - named for what happened
    """What the server answers instead of doing it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass(frozen=True, slots=True)
class Key:
    """Where an object is."""

    resource: Resource
    namespace: str
    name: str


@dataclass(slots=True)
class Watch:
    """Somebody who wants to hear of every change of a kind."""

    resource: Resource
    changes: asyncio.Queue[tuple[str, Object] | None] = field(default_factory=asyncio.Queue)


class Store:
    """What is there. All methods are the event loop's; readers elsewhere take copies."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self._owners: dict[Key, dict[Path, str]] = {}
        self._versions = itertools.count(1)
        self.version = "0"
        self._watches: list[Watch] = []

    def get(self, key: Key) -> Object:
        """Return an object.

        Raises:
            Refused: there is none (404).
        """
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{key.resource.plural} "{key.name}" not found')
        return self.objects[key]

    def list(self, resource: Resource, namespace: str | None) -> Iterator[Object]:
        """All of a kind, in a namespace or everywhere."""
        for key, found in self.objects.items():
            if key.resource == resource and namespace in (None, key.namespace):
                yield found

    def put(self, key: Key, new: Object, manager: str) -> Object:
        """Write an object as a whole; ``manager`` owns from now on what that changes."""
        old = self.objects.get(key, {})
        owners = self._owners.setdefault(key, {})
        before, after = dict(owned_leaves(old)), dict(owned_leaves(new))
        for path in [path for path in owners if path not in after]:
            del owners[path]
        owners.update({path: manager for path, value in after.items() if before.get(path) != value})
        return self._keep(key, new)

    def apply(self, key: Key, wanted: Object, manager: str, *, is_forced: bool) -> Object:
        """Server-side apply.

        Raises:
            Refused: fields have another owner and another value (409), as HPA's `.spec.replicas`.
        """
        new = copy.deepcopy(self.objects.get(key, {}))
        owners = self._owners.setdefault(key, {})
        present, asked = dict(owned_leaves(new)), dict(owned_leaves(wanted))
        contested = [
            (path, owners[path])
            for path, value in asked.items()
            if owners.get(path, manager) != manager and present.get(path) != value
        ]
        if contested and not is_forced:
            told = ", ".join(f'"{owner}": .{".".join(path)}' for path, owner in contested)
            raise Refused(409, "Conflict", f"Apply failed with {len(contested)} conflict(s): {told}")
        for path in [path for path, owner in owners.items() if owner == manager and path not in asked]:
            remove_leaf(new, path)
            del owners[path]
        for path, value in leaves(wanted):
            set_leaf(new, path, value)
        owners.update({path: manager for path in asked if is_forced or owners.get(path, manager) == manager})
        return self._keep(key, new)

    def set_status(self, key: Key, status: Object) -> None:
        """Write what a controller found; the generation stays."""
        if self.objects[key].get("status") != status:
            self._keep(key, {**self.objects[key], "status": status}, is_status=True)

    def delete(self, key: Key) -> Object:
        """Take an object away, with all that it owns."""
        gone = self.get(key)
        del self.objects[key]
        self._owners.pop(key, None)
        self.version = str(next(self._versions))
        self._tell(key, "DELETED", gone)
        uid = gone["metadata"]["uid"]
        for other, found in list(self.objects.items()):
            owners = found["metadata"].get("ownerReferences", [])
            if other in self.objects and any(owner["uid"] == uid for owner in owners):
                self.delete(other)
        return gone

    @contextmanager
    def watching(self, resource: Resource) -> Iterator[Watch]:
        """Hear of every change of a kind."""
        watch = Watch(resource)
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    def end_watches(self) -> None:
        """Tell everybody who listens that nothing more will come."""
        for watch in self._watches:
            watch.changes.put_nowait(None)

    def _keep(self, key: Key, new: Object, *, is_status: bool = False) -> Object:
        old = self.objects.get(key)
        self.version = str(next(self._versions))
        metadata = new.setdefault("metadata", {})
        before: Mapping[str, Any] = old["metadata"] if old else {}
        changed = not is_status and (old is None or _specified(old) != _specified(new))
        metadata["uid"] = before.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = CREATED_AT
        metadata["resourceVersion"] = self.version
        metadata["generation"] = before.get("generation", 0) + changed
        if key.namespace:
            metadata["namespace"] = key.namespace
        new.setdefault("apiVersion", key.resource.group_version)
        new.setdefault("kind", key.resource.kind)
        self.objects[key] = new
        self._tell(key, "MODIFIED" if old else "ADDED", new)
        return new

    def _tell(self, key: Key, change: str, what: Object) -> None:
        for watch in self._watches:
            if watch.resource == key.resource:
                watch.changes.put_nowait((change, copy.deepcopy(what)))


def owned_leaves(found: Object) -> Iterator[tuple[Path, Any]]:
    """The fields that managers own: not those that the server writes."""
    for path, value in leaves(found):
        is_label = path[:2] in {("metadata", "labels"), ("metadata", "annotations")}
        if is_label or path[:1] not in SERVERS_OWN:
            yield path, value


def _specified(found: Object) -> Object:
    """What raises the generation when it changes."""
    return {name: value for name, value in found.items() if name not in ("status", "metadata")}
