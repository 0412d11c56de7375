"""The server: HTTP in a thread of its own, so that tests can run programs and look at what they did."""

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from aiohttp import web

from tests.charts.kube import discovery
from tests.charts.kube.controllers import Controllers
from tests.charts.kube.patches import Object, merge, merge_strategically
from tests.charts.kube.requests import (
    defaulted,
    is_asked,
    kept_by_server,
    parsed,
    scale_of,
    status,
)
from tests.charts.kube.resources import BUILT_IN, OF_OPERATORS, Resource
from tests.charts.kube.store import Key, Refused, Store
from tests.charts.kube.strictness import KUBERNETES, check

BODY_BYTES_MAX: Final = 64 * 2**20
START_SECONDS: Final = 10.0
LOG_OF_A_POD: Final = "said by a pod that never ran\n"
APPLY, STRATEGIC = "application/apply-patch", "application/strategic-merge-patch"
TRUE: Final = ("1", "true")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Write:
    """One change that somebody asked for, done or refused."""

    method: str
    kind: str
    name: str
    manager: str
    code: int


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL names."""

    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str = ""

    def key(self, name: str) -> Key:
        """The object of that name here."""
        return Key(self.resource, self.namespace or "", name)


class FakeCluster:
    """A Kubernetes API on a free port of this machine, while its context lasts.

    Args:
        operators: the kinds of operators that are installed.
    """

    def __init__(self, operators: Sequence[Resource] = OF_OPERATORS) -> None:
        self._resources = (*BUILT_IN, *operators)
        self._store = Store()
        by_kind = {one.kind: one for one in reversed(self._resources)}
        self.controllers = Controllers(self._store, by_kind)
        self.writes: list[Write] = []
        self._loop = asyncio.new_event_loop()
        self.port = 0

    # ---- what tests do with it -----------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator["FakeCluster"]:
        """Serve while the context lasts."""
        started: Future[int] = Future()
        stop = asyncio.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started, stop),))
        thread.start()
        try:
            self.port = started.result(START_SECONDS)
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            self._loop.close()

    def kubeconfig(self, folder: Path, namespace: str = "default") -> Path:
        """Write a file that `KUBECONFIG` can name."""
        context = {"cluster": "fake", "user": "somebody", "namespace": namespace}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "contexts": [{"name": "fake", "context": context}],
            "users": [{"name": "somebody", "user": {"token": "any"}}],
        }  # fmt: skip
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        path.chmod(0o600)
        return path

    def objects(self, kind: str = "", namespace: str | None = None) -> dict[str, Object]:
        """Copies of what is there, by `Kind/name`; without the Secrets that Helm keeps releases in."""
        return self._inside(lambda: {
            f"{key.resource.kind}/{key.name}": copy.deepcopy(found)
            for key, found in self._store.objects.items()
            if kind in ("", key.resource.kind) and namespace in (None, key.namespace)
            and not key.name.startswith("sh.helm.release.")
        })  # fmt: skip

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Do as an autoscaler does."""

        def act() -> None:
            (resource,) = [one for one in self._resources if one.kind == "Deployment"]
            key = Key(resource, namespace, deployment)
            changed = copy.deepcopy(self._store.get(key))
            changed["spec"]["replicas"] = replicas
            self._store.put(key, changed, "kube-controller-manager")
            self.controllers.run_once()

        self._inside(act)

    def stuck(self) -> dict[str, list[str]]:
        """Why pods do not run, by the object that wants them."""
        return self._inside(lambda: {
            f"{key.resource.kind}/{key.name}": why
            for key, found in self._store.objects.items()
            if key.resource.kind in ("Deployment", "Job", "Pod", "StatefulSet")
            and (why := self.controllers.stuck_because(key, found))
        })  # fmt: skip

    def _inside(self, act: Callable[[], Answer]) -> Answer:
        async def run() -> Answer:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_SECONDS)

    # ---- HTTP ----------------------------------------------------------------------------------------

    async def _serve(self, started: "Future[int]", stop: asyncio.Event) -> None:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.set_result(runner.addresses[0][1])
        await stop.wait()
        self._store.end_watches()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        found = discovery.answer(path, self._resources, KUBERNETES)
        if found is not None:
            return web.json_response(found)
        try:
            place = self._place(path)
            if request.method == "GET":
                return await self._read(request, place)
            return await self._write(request, place)
        except Refused as refused:
            return web.json_response(status(refused), status=refused.code)

    def _place(self, path: str) -> Place:
        steps = path.split("/")
        length = {"api": 2, "apis": 3}.get(steps[0], 0)
        root, rest = "/".join(steps[:length]), steps[length:]
        namespace = None
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        for resource in self._resources:
            if rest and resource.root == root and resource.plural == rest[0]:
                return Place(resource, namespace, *(rest[1:3] if len(rest) > 1 else (None,)))
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    async def _read(self, request: web.Request, place: Place) -> web.StreamResponse:
        if place.subresource == "log":
            return web.Response(text=LOG_OF_A_POD)
        if place.name is not None:
            found = self._store.get(place.key(place.name))
            return web.json_response(scale_of(found) if place.subresource == "scale" else found)
        if request.query.get("watch") in TRUE:
            return await self._watch(request, place)
        here = [one for one in self._store.list(place.resource, place.namespace) if is_asked(one, request)]
        return web.json_response({
            "kind": f"{place.resource.kind}List", "apiVersion": place.resource.group_version,
            "metadata": {"resourceVersion": self._store.version}, "items": here,
        })  # fmt: skip

    async def _watch(self, request: web.Request, place: Place) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with self._store.watching(place.resource) as watch, suppress(ConnectionResetError):
            for event in self._first_events(request, place):
                await response.write(json.dumps(event).encode() + b"\n")
            while (news := await watch.changes.get()) is not None:
                change, found = news
                here = place.namespace in (None, found["metadata"].get("namespace"))
                if here and is_asked(found, request):
                    event = {"type": change, "object": found}
                    await response.write(json.dumps(event).encode() + b"\n")
        return response

    def _first_events(self, request: web.Request, place: Place) -> Iterator[Mapping[str, Any]]:
        since = request.query.get("resourceVersion") or "0"
        wants_all = request.query.get("sendInitialEvents") == "true"
        for one in self._store.list(place.resource, place.namespace):
            is_news = int(one["metadata"]["resourceVersion"]) > int(since)
            if is_asked(one, request) and (wants_all or is_news):
                yield {"type": "ADDED", "object": one}
        if wants_all:
            metadata = {
                "resourceVersion": self._store.version,
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            kinds = {"kind": place.resource.kind, "apiVersion": place.resource.group_version}
            yield {"type": "BOOKMARK", "object": {**kinds, "metadata": metadata}}

    async def _write(self, request: web.Request, place: Place) -> web.Response:
        manager = request.query.get("fieldManager") or request.headers.get("User-Agent", "").split("/")[0]
        body = await request.read()
        name = place.name or parsed(body)["metadata"].get("name", "")
        code = 500
        try:
            if place.subresource == "scale":
                answered, code = self._scale(place.key(name), body, manager), 200
            else:
                answered, code = self._change(request, place.key(name), body, manager)
            self.controllers.run_once()
            return web.json_response(answered, status=code)
        except Refused as refused:
            code = refused.code
            raise
        finally:
            self.writes.append(Write(request.method, place.resource.kind, name, manager, code))

    def _change(
        self, request: web.Request, key: Key, body: bytes, manager: str
    ) -> tuple[Mapping[str, Any], int]:
        if request.method == "DELETE":
            self._store.delete(key)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}, 200
        old = self._store.objects.get(key)
        kind = request.headers.get("Content-Type", "")
        if request.method == "POST" and old is not None:
            raise Refused(409, "AlreadyExists", f'{key.resource.plural} "{key.name}" already exists')
        if request.method in ("POST", "PUT"):
            new = kept_by_server(parsed(body), old)
        elif APPLY in kind:
            return self._apply(request, key, parsed(body), manager)
        else:
            new = copy.deepcopy(self._store.get(key))
            (merge_strategically if STRATEGIC in kind else merge)(new, parsed(body))
        return self._checked(request, key, new, old, manager), 201 if old is None else 200

    def _scale(self, key: Key, body: bytes, manager: str) -> Mapping[str, Any]:
        changed = copy.deepcopy(self._store.get(key))
        changed["spec"]["replicas"] = parsed(body)["spec"]["replicas"]
        return scale_of(self._store.put(key, changed, manager))

    def _checked(
        self, request: web.Request, key: Key, new: Object, old: Object | None, manager: str
    ) -> Mapping[str, Any]:
        new = defaulted(key, new)
        check(key.resource, new, old)
        if request.query.get("dryRun"):
            return new
        return self._store.put(key, new, manager)

    def _apply(
        self, request: web.Request, key: Key, wanted: Object, manager: str
    ) -> tuple[Mapping[str, Any], int]:
        old = self._store.objects.get(key)
        check(key.resource, defaulted(key, copy.deepcopy(wanted)), None)
        if request.query.get("dryRun"):
            return wanted, 200
        before = copy.deepcopy(old)
        new = self._store.apply(key, wanted, manager, is_forced=request.query.get("force") in TRUE)
        check(key.resource, defaulted(key, new), before)
        return new, 201 if old is None else 200
