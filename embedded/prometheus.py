"""A Prometheus beside the instance, where the machine has one: it collects what the processes show.

It is for looking: nothing of Tollwire needs it, and no wheel ships it, so it is never installed by itself.
"""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embedded.files import write_private
from embedded.ports import LOOPBACK, free_port, netloc
from embedded.probe import is_ok
from embedded.unit import NotInstalled, Unit

PROGRAM: Final = "prometheus"
VERSION_MIN: Final = (2, 42)  # what the rules are tested with, and what Debian 12 has
PROGRAM_SECONDS: Final = 30.0
# Short, so that a person at a laptop sees a rate within half a minute; a cluster takes 15 or 30 s.
SCRAPE_SECONDS: Final = 5
EVALUATION_SECONDS: Final = 15
# What a laptop gives to it at most.
RETENTION: Final = ("--storage.tsdb.retention.time=7d", "--storage.tsdb.retention.size=1GB")
HOW_TO_GET_IT: Final = (
    "apt install prometheus (Debian, Ubuntu), brew install prometheus (macOS), "
    "or put the program of prometheus.io/download on the PATH"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One process that shows metrics: its job (all of a kind), its name, its health port and address."""

    job: str
    instance: str
    port: int
    address: str = LOOPBACK


class PrometheusServer(Unit):
    """Prometheus on 127.0.0.1, without alertmanager: its page shows which alerts fire.

    Args:
        folder: where its data and its configuration live.
        program: what ``find_prometheus`` found.
        targets: what it collects from.
        rules: a folder of rule files; it may be missing.
        port: a free one is chosen when None.
        log: its log, ``prometheus.log`` in the folder by default.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: Path,
        targets: Sequence[Target],
        rules: Path,
        port: int | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__("prometheus", folder.absolute(), log)
        self.port = port or free_port()
        self._program = program
        self._targets = targets
        self._rules = rules.absolute()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Write the configuration."""
        write_private(self._config, json.dumps(configuration(self._targets, self._rules), indent=1))

    def launch(self) -> None:
        """Start the server and return at once."""
        self.child.launch(
            [
                str(self._program),
                f"--config.file={self._config}",
                f"--web.listen-address={LOOPBACK}:{self.port}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                *RETENTION,
            ],
            death_signal=signal.SIGTERM,
            folder=str(self.folder),
        )

    def is_ready(self) -> bool:
        """True when it has read its rules and its journal."""
        return is_ok(self.port, "/-/ready")

    @property
    def _config(self) -> Path:
        return self.folder / "prometheus.yml"


def configuration(targets: Sequence[Target], rules: Path) -> dict[str, Any]:
    """Return what prometheus.yml says; JSON is YAML too."""
    jobs: dict[str, list[Target]] = {}
    for target in targets:
        jobs.setdefault(target.job, []).append(target)
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": f"{EVALUATION_SECONDS}s",
        },
        "rule_files": [str(rules / "*.yaml")],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {
                        "targets": [netloc(target.address, target.port)],
                        "labels": {"instance": target.instance},
                    }
                    for target in members
                ],
            }
            for job, members in jobs.items()
        ],
    }


def find_prometheus() -> Path:
    """Return the program on the PATH.

    Raises:
        NotInstalled: there is none, or it is too old; the message says how to get one.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise NotInstalled(f"prometheus was not found: {HOW_TO_GET_IT}")
    said = subprocess.run(  # noqa: S603 - the program that was found
        [found, "--version"], capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )
    # It says: prometheus, version 2.42.0+ds (branch: …), some versions on stderr.
    match = re.search(r"version (\d+)\.(\d+)\.\d+", said.stdout + said.stderr)
    if match is None:
        raise NotInstalled(f"{found} does not run here: {said.stderr.strip() or 'it says nothing'}")
    if (int(match.group(1)), int(match.group(2))) < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise NotInstalled(f"{found} is {match.group(0)}; {wanted} or newer is needed: {HOW_TO_GET_IT}")
    return Path(found)
