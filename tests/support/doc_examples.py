"""The requests and answers written in a document: read, played against a running instance, compared.

In the document a block ```http is a request, or the answer to the request above it. What differs from run to
run (ids, times, cursors, secrets) is compared by its form; an id or cursor of an answer stands for the
real one in the requests below it. ``tests.support.doc_writer`` writes the answers anew.
"""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from tests.support.api_client import Api
from tests.support.instance import Instance

BLOCK = re.compile(r"```http\n(.*?)```", re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
# What differs from run to run: by its form, or by the name of its field.
FORMS = (
    TIME,
    re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    re.compile(r"[0-9a-f]{16}"),
    re.compile(r"sim-[0-9a-z]+-\d+"),
    re.compile(r"whsec_\S+"),
    re.compile(r'"burst";r=\d+;t=\d+'),
)
FIELDS = {"next_cursor", "after", "rate_version"}
# Requests whose time is yesterday's would be refused or mean something else.
SENT_LATER = timedelta(days=1)
SCOPES = ["messages:send", "messages:read", "balance:read", "callbacks:manage"]
# How a key is written (none: the usual client's), whose it is, that client's credit, whether it is for tests.
CLIENTS = (
    ("", "guide", "100.00", False),
    ("tw_test_…", "guide", "100.00", True),
    ("tw_…", "guide-almost-empty", "0.05", False),
)

Answer = tuple[int, Mapping[str, str], Any]
"""Status, headers, decoded body."""


@dataclass(frozen=True, slots=True)
class Example:
    """One request of a document and its answer, with the answer's place in the document."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str
    status: int
    answer_headers: Mapping[str, str]
    answer: Any
    span: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.headers.get('Idempotency-Key', '')} -> {self.status}"


def examples(document: str) -> Iterator[Example]:
    """Every request of a document that is followed by its answer, in order."""
    request: tuple[str, Mapping[str, str], str] | None = None
    for block in BLOCK.finditer(document):
        first, headers, body = _parts(block[1])
        if not first.startswith("HTTP/"):
            request = first, headers, body
            continue
        if request is None:
            raise ValueError(f"this answer follows no request: {first}")
        method, _, path = request[0].partition(" ")
        status = int(first.split(" ")[1])
        answer = json.loads(body) if body else None
        yield Example(method, path, request[1], request[2], status, headers, answer, block.span(1))
        request = None


class Player:
    """Sends examples in their order to one instance.

    Args:
        url: of the API.
        keys: the real API key for each one written in the document; the one under "" is for requests
            that name none.
    """

    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        self._netloc = urlsplit(url).netloc
        self._keys = keys
        self._real: dict[str, str] = {}

    def send(self, example: Example) -> Answer:
        """Send the request as it is written."""
        named = example.headers.get("X-API-Key", "")
        headers = {"Content-Type": "application/json", **example.headers}
        headers["X-API-Key"] = self._keys.get(named, named)
        later = (datetime.now(UTC) + SENT_LATER).isoformat(timespec="seconds")
        body = TIME.sub(later, self._as_real(example.body))
        connection = http.client.HTTPConnection(self._netloc, timeout=30.0)
        try:
            connection.request(example.method, self._as_real(example.path), body.encode() or None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, dict(answer.headers), json.loads(text) if text else None
        finally:
            connection.close()

    def differences(self, example: Example, answer: Answer) -> list[str]:
        """What is otherwise than written; when there is nothing, the ids of this answer are learnt."""
        status, headers, body = answer
        known = dict(self._real)
        found = list(differences("status", example.status, status, known))
        for name, written in example.answer_headers.items():
            found += differences(name, written, headers.get(name), known)
        found += differences("", example.answer, body, known)
        if not found:
            self._real = known
        return found

    def learn(self, example: Example, answer: Any) -> None:
        """Let the id that is written stand for that of the answer, whatever else is different."""
        if "id" in example.answer and "id" in answer:
            self._real[example.answer["id"]] = answer["id"]

    def _as_real(self, text: str) -> str:
        for written, real in self._real.items():
            text = text.replace(written, real)
        return text


def differences(at: str, written: Any, real: Any, known: dict[str, str]) -> Iterator[str]:
    """What is otherwise than written, with its place. ``known`` learns which id stands for which."""
    if isinstance(written, dict) and isinstance(real, dict):
        for name in {**written, **real}:
            place = f"{at}.{name}".lstrip(".")
            yield from differences(place, written.get(name, "nothing"), real.get(name, "nothing"), known)
    elif isinstance(written, list) and isinstance(real, list) and len(written) == len(real):
        for index, (one, other) in enumerate(zip(_in_order(written), _in_order(real), strict=True)):
            yield from differences(f"{at}[{index}]", one, other, known)
    elif not _is_same(at, written, real, known):
        yield f"{at}: {written!r} is written, {real!r} is true"


def keys_of(instance: Instance) -> dict[str, str]:
    """Make the clients that the documents speak of; return the real key for each written one."""
    operator = Api(instance.status()["api_url"], (instance.home / "admin.key").read_text().strip())
    keys = {}
    for written, name, amount, is_test in CLIENTS:
        operator.ask("POST", "/admin/v1/clients", {"name": name, "default_sender": "ACME"})
        credit = {"amount": amount, "reference": "invoice-17", "reason": "paid"}
        operator.ask("POST", f"/admin/v1/clients/{name}/credit", credit)
        new = {"client": name, "scopes": SCOPES, "test": is_test}
        status, answer = operator.ask("POST", "/admin/v1/keys", new)
        assert status == 201, answer
        keys[written] = answer["key"]
    return keys


def _is_same(at: str, written: Any, real: Any, known: dict[str, str]) -> bool:
    is_volatile = at.rpartition(".")[2] in FIELDS
    if not isinstance(written, str) or not isinstance(real, str):
        return type(written) is type(real) and (is_volatile or bool(written == real))
    if written in known:
        return known[written] == real
    if is_volatile or any(form.fullmatch(written) and form.fullmatch(real) for form in FORMS):
        if not TIME.fullmatch(written):
            known[written] = real
        return True
    return _masked(written) == _masked(real)


def _masked(text: str) -> str:
    for form in FORMS:
        text = form.sub("*", text)
    return text


def _in_order(values: list[Any]) -> list[Any]:
    """Events that happen in the same moment may be told in any order."""
    if values and all(isinstance(value, dict) and "event" in value for value in values):
        return sorted(values, key=lambda value: str(value["event"]))
    return values


def _parts(block: str) -> tuple[str, dict[str, str], str]:
    head, _, body = block.partition("\n\n")
    first, *lines = head.strip().splitlines()
    return first, dict(line.split(": ", 1) for line in lines), body.strip()
