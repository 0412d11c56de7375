"""A whole instance, started and asked as a user does it: by the command line and over HTTP."""

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from embedded.child import Child, StopStep

COMMAND_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05


class Instance:
    """One TOLLWIRE_HOME.

    Args:
        home: where it keeps everything; every account must be able to pass through to it.
        port: of its API.
        environ: more settings.
    """

    def __init__(self, home: Path, port: int, **environ: str) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
        self.environ = {**inherited, "TOLLWIRE_HOME": str(home), "TOLLWIRE_PORT": str(port), **environ}
        self._children: list[Child] = []

    def command(self, *arguments: str) -> list[str]:
        """The words of a `tollwire` command."""
        return [sys.executable, "-P", "-m", "cli", *arguments]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a `tollwire` command to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environ, cwd=self.home.parent, capture_output=True, text=True, check=False,
            timeout=COMMAND_SECONDS,
        )  # fmt: skip

    def up(self, *arguments: str) -> str:
        """`tollwire up`; return its screen. It ends with this process, however that ends."""
        child = Child(f"{self.home.name}-up", self.home.parent, self.home.with_suffix(".screen"))
        child.log.unlink(missing_ok=True)
        child.launch(
            self.command("up", *arguments),
            death_signal=signal.SIGTERM, environ=self.environ, folder=str(self.home.parent),
        )  # fmt: skip
        self._children.append(child)
        screen = eventually(
            child.log.read_text, lambda text: child.exit_code is not None or len(commands_on(text)) == 2
        )
        assert child.exit_code is None, f"{screen}\n{self.logs()}"
        return str(screen)

    def down(self, *arguments: str) -> str:
        """`tollwire down`; return what it says."""
        done = self.run("down", *arguments)
        assert done.returncode == 0, done.stderr
        for child in self._children:
            for pause_seconds in child.stopping([StopStep(signal.SIGTERM, PATIENCE_SECONDS)]):
                time.sleep(pause_seconds)
        self._children.clear()
        return done.stdout

    def up_detached(self, *arguments: str) -> str:
        """`tollwire up --detach`; return its screen. It outlives this process: prefer ``up``."""
        done = self.run("up", "--detach", *arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """`tollwire status --json`, with its exit status as ``exit``."""
        done = self.run("status", "--json")
        return {**json.loads(done.stdout), "exit": done.returncode}

    def pid_of(self, name: str) -> int:
        """The pid of one of its processes, 0 while it has none."""
        pids = {process["name"]: process["pid"] for process in self.status()["processes"]}
        return int(pids[name] or 0)

    def logs(self) -> str:
        """The end of every log, for the message of a test that fails."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in self.home.glob("logs/*.log"))


def commands_on(screen: str) -> list[list[str]]:
    """The words of each `curl` on a screen of `tollwire up`."""
    blocks = screen.replace("\\\n", "").splitlines()
    return [shlex.split(line) for line in blocks if line.strip().startswith("curl ")]


def curl(words: list[str]) -> tuple[int, Any]:
    """Do what such a `curl` does (not every machine has one); return status and decoded JSON."""
    url, headers, body = "", {}, None
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-s":
                pass
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body = next(rest)
            case _:
                url = word
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=COMMAND_SECONDS)
    try:
        connection.request("GET" if body is None else "POST", parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def eventually(look: Callable[[], Any], is_right: Callable[[Any], bool]) -> Any:
    """Look again and again until it is right; return what was seen.

    Raises:
        AssertionError: it was not right in time; the message shows what was seen last.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen = look()
        if is_right(seen):
            return seen
        assert time.monotonic() < until, f"still not right after {PATIENCE_SECONDS:.0f} s: {seen}"
        # Other processes give no signal to wait for.
        time.sleep(POLL_SECONDS)
