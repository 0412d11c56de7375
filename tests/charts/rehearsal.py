"""Runs the rendered pods without a cluster: ``python -m tests.charts.rehearsal FOLDER [--no-build]``.

Every pod's own command, environment, Secrets and security context, in the image's file system; only hosts
and ports are others, since all share this machine's network. What is real besides: PostgreSQL, NATS, the
migration, the bootstrap, a message from the API to DELIVERED, and SIGTERM to each process as number 1.
Not there: a kubelet, seccomp, limits of memory, NetworkPolicies.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from embedded.nats import NatsServer
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.roles import ensure_database, set_passwords
from shared.runtime import loops
from tests.charts.image import open_images
from tests.charts.rendering import HELM4, RELEASE, Object, named, of_kind, pod_of, rendered
from tests.charts.tools import ROOT

HERE: Final = Path(__file__).parent
SERVICES: Final = ("simulator", "ledger", "dlr", "worker", "api")
START_SECONDS: Final = 90.0
PATH: Final = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the pods run: the image, what their Secrets hold, and which port stands for which host."""

    root: Path
    folder: Path
    secrets: dict[tuple[str, str], str]
    places: dict[str, str]
    ports: dict[str, int]

    def spell(self, text: str) -> str:
        """Put this machine's hosts and ports for those of the cluster."""
        for host, place in self.places.items():
            text = text.replace(host, place)
        return text

    def environ(self, container: Object, name: str) -> dict[str, str]:
        """What the container's variables hold here."""
        environ = {"PATH": PATH, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        for one in container["env"]:
            if "value" in one:
                environ[one["name"]] = self.spell(one["value"])
            else:
                reference = one["valueFrom"]["secretKeyRef"]
                environ[one["name"]] = self.secrets[reference["name"], reference["key"]]
        own = {
            "TOLLWIRE_HEALTH_PORT": f"{name}-health",
            "TOLLWIRE_PORT": "api",
            "TOLLWIRE_RECEIPTS_PORT": "dlr",
            "TOLLWIRE_SIMULATOR_PORT": "simulator",
        }
        told = {key: str(self.ports[port]) for key, port in own.items() if port in self.ports}
        return environ | {key: port for key, port in told.items() if key in environ}

    def files(self, pod: Object, name: str) -> Path:
        """A folder with what the pod's Secrets mount."""
        folder = self.folder / "files" / name
        for volume in pod["volumes"]:
            for item in volume.get("secret", {}).get("items", []):
                file = folder / volume["name"] / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(self.secrets[volume["secret"]["secretName"], item["key"]])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self, pod: Object, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a pod's container, or another command in its place."""
        container = pod["containers"][0]
        books = self.folder / "books"
        words = [self.spell(word) for word in command or container["command"]]
        return subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", HERE / "pods.sh",
             self.root, self.files(pod, name), books, *words],
            env=self.environ(container, name) if container.get("env") else {"PATH": PATH},
            stdout=(self.folder / f"{name}.log").open("a"), stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, pod: Object, name: str, *command: str) -> tuple[int, str]:
        """Run a pod's container to its end; exit status and what it said."""
        log = self.folder / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        process = self.start(pod, name, *command)
        status = process.wait(timeout=START_SECONDS)
        return status, log.read_text()[before:]


@contextmanager
def servers(folder: Path) -> Iterator[tuple[PostgresServer, NatsServer]]:
    """PostgreSQL with our roles and an empty database, and a NATS."""
    postgres, nats = PostgresServer(folder / "postgresql", durable=False), NatsServer(folder / "nats")
    postgres.start()
    nats.start()
    try:
        asyncio.run(_make_roles(postgres))
        yield postgres, nats
    finally:
        nats.stop()
        postgres.stop()


async def _make_roles(postgres: PostgresServer) -> None:
    await ensure_database(postgres, "tollwire")
    connection = await asyncpg.connect(postgres.dsn(database="tollwire"))
    await connection.execute((ROOT / "alembic" / "bootstrap.sql").read_text())
    await connection.close()
    await set_passwords(postgres)


def tell(text: str) -> None:
    """Say what was seen."""
    print(f"ok  {text}", flush=True)


def check(is_so: bool, text: str) -> None:
    """Say what was seen, or stop.

    Raises:
        SystemExit: it was otherwise.
    """
    if not is_so:
        raise SystemExit(f"no  {text}")
    tell(text)


def child_of(process: subprocess.Popen[str]) -> int:
    """The process that is number 1 of its own namespace, by its number here."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(text[0])


def status_of(url: str) -> int:
    """The HTTP status, or 0 when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def await_status(url: str, wanted: int) -> None:
    """Wait until the URL answers so.

    Raises:
        SystemExit: it did not in time.
    """
    give_up_at = time.monotonic() + START_SECONDS
    while status_of(url) != wanted:
        if time.monotonic() >= give_up_at:
            raise SystemExit(f"no  {url} answers {wanted}")
        time.sleep(0.2)


def inspect(stage: Stage, pod: Object) -> None:
    """What the image holds, and what a pod may do in it."""
    status, told = stage.finish(
        pod, "probe", "sh", "-c", "id -u; id -g; touch /app/x; touch /tmp/x && echo wrote"
    )
    check("10001\n10001\n" in told and "Read-only file system" in told, "uid 10001, root is read-only")
    check(status == 0 and "wrote" in told, "/tmp can be written to")
    tools = "for tool in pip pip3 gcc cc make curl wget; do command -v $tool; done; python3 -m pip --version"
    _, told = stage.finish(pod, "probe", "sh", "-c", tools)
    check(
        "/" not in told.replace("/usr/bin/python3:", "").replace("/opt/venv/bin/python3:", ""),
        "no build tool, no installer",
    )
    _, told = stage.finish(pod, "probe", "python3", "--version")
    tell(told.strip())


def run_jobs(stage: Stage, objects: tuple[Object, ...]) -> None:
    """Migration and bootstrap, twice: the second time there is nothing to do."""
    for turn in ("first", "second"):
        for job in ("migrate", "bootstrap"):
            pod = pod_of(named(objects, "Job", f"{RELEASE}-{job}"))
            status, told = stage.finish(pod, job)
            check(status == 0, f"{job}, {turn} time: {told.strip().splitlines()[-1] if told.strip() else ''}")


def run_services(stage: Stage, objects: tuple[Object, ...]) -> dict[str, subprocess.Popen[str]]:
    """Start every service and wait until its probes answer."""
    started = {}
    for name in SERVICES:
        pod = pod_of(named(objects, "Deployment", f"{RELEASE}-{name}"))
        started[name] = stage.start(pod, name)
    for name, process in started.items():
        container = pod_of(named(objects, "Deployment", f"{RELEASE}-{name}"))["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container[probe]["httpGet"]["path"]
            await_status(f"http://127.0.0.1:{stage.ports[f'{name}-health']}{path}", 200)
        held = Path(f"/proc/{child_of(process)}/status").read_text()
        found = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs|NSpid):\s+(.*)$", held, re.MULTILINE))
        no_rights = int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
        is_first = found["NSpid"].split()[-1] == "1"
        check(
            found["Uid"].split() == ["10001"] * 4 and no_rights and found["NoNewPrivs"] == "1" and is_first,
            f"{name} is ready, as number 1, uid 10001, without a capability",
        )
    return started


def send_one(stage: Stage) -> None:
    """A client, credit, a key and a message, by the operator's key of the bootstrap."""
    url = f"http://127.0.0.1:{stage.ports['api']}"

    def tollwire(key: str, *words: str) -> Any:
        environ = os.environ | {"TOLLWIRE_API_URL": url, "TOLLWIRE_API_KEY": key}
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words, "--json"],
            env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        check(done.returncode == 0, f"tollwire {' '.join(words)} {done.stderr.strip()}")
        return json.loads(done.stdout)

    operator = stage.secrets["tollwire-operator", "operator.key"].strip()
    tollwire(operator, "client", "create", "acme", "--default-sender", "ACME")
    tollwire(operator, "credit", "add", "acme", "10.00", "--reference", "first")
    key = tollwire(operator, "key", "create", "acme")["key"]
    sent = tollwire(key, "send", "+4915112345678", "Hello", "--wait")
    check("DELIVERED" in json.dumps(sent), "the message is DELIVERED")


def stop_all(started: dict[str, subprocess.Popen[str]]) -> None:
    """SIGTERM to each: it ends by itself, with 0, within its grace."""
    for name, process in started.items():
        begun = time.monotonic()
        os.kill(child_of(process), signal.SIGTERM)
        status = process.wait(timeout=loops.GRACE_SECONDS + loops.FIRM_SECONDS)
        check(status == 0, f"{name} stopped {time.monotonic() - begun:.1f} s after SIGTERM, exit {status}")


def rehearse(root: Path, folder: Path) -> None:
    """All of it."""
    with servers(folder) as (postgres, nats):
        ports = {
            name: free_port() for name in ("api", "dlr", "simulator", *(f"{one}-health" for one in SERVICES))
        }
        roles = ("migrate", "api", "worker", "dlr", "ledger")
        secrets = {("tollwire-postgres", role): postgres.secret(f"tollwire_{role}") for role in roles}
        secrets |= {("nats", "token"): nats.token, ("tollwire-simulator", "secret"): "rehearsal"}
        places = {
            f"{RELEASE}-dlr:80": f"127.0.0.1:{ports['dlr']}",
            f"{RELEASE}-simulator:8190": f"127.0.0.1:{ports['simulator']}",
        }
        (folder / "books").mkdir()
        os.chown(folder / "books", 0, 10001)
        (folder / "books").chmod(0o2775)
        stage = Stage(root, folder, secrets, places, ports)
        settings = (
            f"postgresql.host=127.0.0.1,postgresql.port={postgres.port},nats.url={nats.url},"
            "nats.existingSecret=nats,nats.tokenKey=token"
        )
        objects = rendered("dev", HELM4, "--set", settings)
        test = of_kind(objects, "Pod")[0]["spec"]
        inspect(stage, test)
        _, secrets["tollwire-operator", "operator.key"] = stage.finish(
            test, "key", "tollwire", "key", "generate"
        )
        made = "tollwire keyring create /tmp/k 2>/dev/null && cat /tmp/k"
        _, secrets["tollwire-keyring", "keyring.json"] = stage.finish(test, "keyring", "sh", "-c", made)
        run_jobs(stage, objects)
        started = run_services(stage, objects)
        try:
            send_one(stage)
            stop_all(started)
        finally:
            for process in started.values():
                process.kill()


if __name__ == "__main__":
    images = open_images(Path(sys.argv[1]))
    if "--no-build" not in sys.argv:
        images.make_base()
        images.build()
    with tempfile.TemporaryDirectory(prefix="tollwire-rehearsal-") as name, images.mounted() as mounted:
        Path(name).chmod(0o711)
        rehearse(mounted, Path(name))
