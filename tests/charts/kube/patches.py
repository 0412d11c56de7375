"""How a change is laid over an object: merge patch, strategic merge patch, server-side apply."""

import copy
from collections.abc import Iterator
from typing import Any, Final

Object = dict[str, Any]
Path = tuple[str, ...]
# By what entries of a list are told apart; other lists are replaced as a whole.
MERGE_KEYS: Final = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name",
    "volumeMounts": "mountPath", "ports": "containerPort", "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
}  # fmt: skip
# A Service's ports are told apart by another field than a container's.
SERVICE_PORT: Final = "port"
DIRECTIVES: Final = ("$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys")


def merge(target: Object, patch: Object) -> None:
    """RFC 7386, in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def merge_strategically(target: Object, patch: Object) -> None:
    """Kubernetes' strategic merge patch for built-in kinds, in place."""
    if patch.pop("$patch", "") == "replace":
        target.clear()
    retained = patch.get("$retainKeys")
    for key in [key for key in target if retained is not None and key not in retained]:
        del target[key]
    for key, value in patch.items():
        if key.startswith(DIRECTIVES):
            continue
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge_strategically(target[key], value)
        elif isinstance(value, list) and (by := merge_key(key, value)):
            target[key] = _merged_list(target.get(key) or [], value, by)
        else:
            target[key] = copy.deepcopy(value)


def merge_key(name: str, entries: list[Any]) -> str | None:
    """The field that tells the entries of a list apart, if they can be."""
    by = MERGE_KEYS.get(name)
    if name == "ports" and any(isinstance(one, dict) and SERVICE_PORT in one for one in entries):
        by = SERVICE_PORT
    return by if by and all(isinstance(one, dict) and by in one for one in entries) else None


def _merged_list(before: list[Object], patch: list[Object], by: str) -> list[Object]:
    found = copy.deepcopy(before)
    for entry in patch:
        same = next((one for one in found if one.get(by) == entry[by]), None)
        if entry.get("$patch") == "delete":
            found = [one for one in found if one is not same]
        elif same is None:
            found.append(copy.deepcopy(entry))
        else:
            merge_strategically(same, copy.deepcopy(entry))
    return found


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field of an object that is no object itself. Lists count as one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def set_leaf(target: Object, path: Path, value: Any) -> None:
    """Put a field where it belongs."""
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = copy.deepcopy(value)


def remove_leaf(target: Any, path: Path) -> None:
    """Take a field away, and what held nothing else."""
    if not isinstance(target, dict) or path[0] not in target:
        return
    if len(path) == 1:
        del target[path[0]]
        return
    remove_leaf(target[path[0]], path[1:])
    if target[path[0]] == {}:
        del target[path[0]]
