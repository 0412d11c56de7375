"""As much of Kubernetes' protobuf as Helm writes: it keeps a release as a Secret in this form."""

import base64
from collections.abc import Iterator
from typing import Any, Final

MAGIC: Final = b"k8s\0"
KINDS: Final = ("Secret", "ConfigMap", "Namespace")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Field numbers of the generated types (k8s.io/api/core/v1/generated.proto, apimachinery's meta/v1).
UNKNOWN_TYPE, UNKNOWN_RAW = 1, 2
TYPE_API_VERSION, TYPE_KIND = 1, 2
META_NAME, META_NAMESPACE, META_RESOURCE_VERSION, META_LABELS, META_ANNOTATIONS = 1, 3, 6, 11, 12
OBJECT_META, OBJECT_DATA, SECRET_TYPE = 1, 2, 3


class NotUnderstood(ValueError):  # noqa: N818 - named for what happened
    """A body in a form that no test has needed so far."""


def decode(body: bytes) -> dict[str, Any]:
    """Return a Secret, a ConfigMap or a Namespace as the dictionary that its JSON would be.

    Raises:
        NotUnderstood: it is another kind, or no such message.
    """
    if not body.startswith(MAGIC):
        raise NotUnderstood("no Kubernetes protobuf")
    outer = dict(_fields(body[len(MAGIC) :]))
    kinds = dict(_fields(_bytes(outer[UNKNOWN_TYPE])))
    kind = _bytes(kinds[TYPE_KIND]).decode()
    if kind not in KINDS:
        raise NotUnderstood(f"a {kind} in protobuf")
    found: dict[str, Any] = {
        "apiVersion": _bytes(kinds[TYPE_API_VERSION]).decode(), "kind": kind, "metadata": {},
    }  # fmt: skip
    for number, value in _fields(_bytes(outer[UNKNOWN_RAW])):
        if number == OBJECT_META:
            found["metadata"] = _metadata(_bytes(value))
        elif number == OBJECT_DATA and kind != "Namespace":
            key, content = _entry(_bytes(value))
            found.setdefault("data", {})[key] = (
                base64.b64encode(content).decode() if kind == "Secret" else content.decode()
            )
        elif number == SECRET_TYPE and kind == "Secret":
            found["type"] = _bytes(value).decode()
    return found


def _metadata(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {META_NAME: "name", META_NAMESPACE: "namespace", META_RESOURCE_VERSION: "resourceVersion"}
    maps = {META_LABELS: "labels", META_ANNOTATIONS: "annotations"}
    for number, value in _fields(body):
        if number in names and value:
            found[names[number]] = _bytes(value).decode()
        elif number in maps:
            key, content = _entry(_bytes(value))
            found.setdefault(maps[number], {})[key] = content.decode()
    return found


def _entry(body: bytes) -> tuple[str, bytes]:
    """A pair of a map."""
    fields = dict(_fields(body))
    return _bytes(fields.get(1, b"")).decode(), _bytes(fields.get(2, b""))


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise NotUnderstood("a number where bytes belong")
    return value


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        if tag & 7 == VARINT:
            value, at = _varint(body, at)
            yield tag >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(tag & 7)
        if length is None:
            length, at = _varint(body, at)
        yield tag >> 3, body[at : at + length]
        at += length


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
