"""This machine and its processes: Python, open files, disks, the keyring, the services of the instance."""

import asyncio
import resource
import shutil
import sys
from pathlib import Path
from typing import Final

import asyncpg

from cli.doctor_findings import Finding, fault, note, ok, warning
from cli.doctor_place import Place
from cli.doctor_schema import missing_keys
from cli.older_services import older_services
from cli.output import count_text
from cli.status import READY, look
from shared.runtime.interpreter import is_optimized
from shared.runtime.keyring import Keyring, KeyringAccessError, KeyringError
from shared.runtime.postgres_hosts import connect
from shared.storage.sealed import what_stays_shut

PYTHON_MIN: Final = (3, 11)
# dlr alone holds 1,024 connections to endpoints, the API one for each client that is connected.
FILES_MIN: Final = 4_096
FILES_GOOD: Final = 65_536
DISK_FREE_BYTES_MIN: Final = 1 * 2**30
DISK_FREE_SHARE_MIN: Final = 0.1
DISK_NONE_BYTES: Final = 100 * 2**20
CONNECT_SECONDS: Final = 5.0
GIB: Final = 2**30
# Who may read all sealed secrets.
READERS: Final = ("api", "ledger")
FASTER: Final = (
    "Take your distribution's Python (make up PYTHON=/usr/bin/python3), "
    "or build one with --enable-optimizations."
)
OLDER: Final = "Restart them: what is sealed with a key that was added since, they cannot open."


async def check_python(_place: Place) -> list[Finding]:
    """The version of this Python, and whether it was built to be fast."""
    text = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_MIN:
        needed = ".".join(map(str, PYTHON_MIN))
        return [fault("python", f"{text}; Tollwire needs {needed} or newer", "Install a newer Python.")]
    if not is_optimized():
        text += ", built without optimizations: Tollwire takes up to half as much CPU again"
        return [note("python", text, FASTER)]
    return [ok("python", text)]


async def check_files(_place: Place) -> list[Finding]:
    """How many files a process started from here may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    if unlimited or soft >= FILES_MIN:
        return [ok("open files", "no limit" if unlimited else f"{soft} may be open")]
    what_to_do = f"ulimit -n {FILES_GOOD}, LimitNOFILE={FILES_GOOD} in a systemd unit"
    if hard != resource.RLIM_INFINITY and hard < FILES_GOOD:
        what_to_do += f" (the hard limit of {hard} must be raised first)"
    return [warning("open files", f"only {soft} may be open: a busy dlr or api needs more", what_to_do + ".")]


async def check_disk(place: Place) -> list[Finding]:
    """Room where the instance, the archive and the seals are."""
    folders = {"data": place.home.path} if place.home is not None else {}
    ledger = place.environs.get("ledger", {})
    for name in ("archive", "seals"):
        if folder := ledger.get(f"TOLLWIRE_{name.upper()}_FOLDER"):
            folders[name] = Path(folder)
    return [_disk(name, folder) for name, folder in folders.items()]


def _disk(name: str, folder: Path) -> Finding:
    setting = "TOLLWIRE_HOME" if name == "data" else f"TOLLWIRE_{name.upper()}_FOLDER"
    try:
        usage = shutil.disk_usage(folder)
        is_folder = folder.is_dir()
    except OSError as error:
        what_to_do = f"Make {folder}, or name another folder in {setting}."
        return fault("disk", f"the folder of the {name} cannot be used: {error.strerror}", what_to_do)
    if not is_folder:
        text = f"the folder of the {name} cannot be used: {folder} is a file"
        return fault("disk", text, f"Name a folder in {setting}.")
    text = f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f} for the {name}"
    if usage.free < DISK_NONE_BYTES:
        return fault("disk", text, "Make room now: PostgreSQL stops at a full disk.")
    if usage.free < DISK_FREE_BYTES_MIN or usage.free < usage.total * DISK_FREE_SHARE_MIN:
        return warning("disk", text, "Make room: docs/retention.md says what may go.")
    return ok("disk", text)


async def check_keyring(place: Place) -> list[Finding]:
    """That it opens, and opens what is sealed in the database."""
    path = place.access.keyring_file
    if not path:
        return []  # said by the settings
    try:
        keyring = Keyring.load(path)
    except KeyringAccessError as error:
        what_to_do = "The services' account must be able to read it, and no other: set its owner and mode."
        return [fault("keyring", str(error), what_to_do)]
    except KeyringError as error:
        what_to_do = "Put the keyring of this database there; without it no text and no secret can be read."
        return [fault("keyring", str(error), what_to_do)]
    count = len(keyring.key_ids)
    text = f"{count_text(count, 'key')} {'opens' if count == 1 else 'open'}, {keyring.active} seals"
    try:
        missing, shut = await _look_inside(place, keyring)
    except (asyncpg.PostgresError, OSError, TimeoutError, ValueError):
        return [ok("keyring", f"{text}; the database could not be asked what it sealed")]
    if missing:
        what_to_do = (
            "Put these keys back from a backup of the keyring: `tollwire keyring status` counts uses."
        )
        return [fault("keyring", f"secrets were sealed with {', '.join(missing)}, not in it", what_to_do)]
    if shut:
        what_to_do = "This is another keyring: put the one of this database in its place, from its backup."
        return [fault("keyring", f"it does not open {shut} that were looked at", what_to_do)]
    return [ok("keyring", text)]


async def _look_inside(place: Place, keyring: Keyring) -> tuple[list[str], str]:
    """The keys that secrets need and the keyring lacks; and what stays shut of a sample of all."""
    for service in READERS:
        if service in place.accesses and (dsn := place.accesses[service].dsn):
            connection = await connect(dsn, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)
            try:
                return await missing_keys(connection, keyring), await what_stays_shut(connection, keyring)
            finally:
                await connection.close()
    return [], ""


async def check_processes(place: Place) -> list[Finding]:
    """The services of the instance in the home: whether each is ready."""
    if place.home is None:
        return []
    # In a thread: it waits for each server that is frozen, and the other checks' servers answer meanwhile.
    report = await asyncio.to_thread(look, place.home)
    if not report.running:
        return [note("processes", "nothing runs", "Start it with `tollwire up`.")]
    findings = [
        fault("processes", f"{name}: {how}", f"Look into {place.home.log_of(name)}.")
        for name, how in report.health.items()
        if how != READY
    ]
    if older := older_services(place.home, place.home.keyring):
        text = f"{', '.join(older)}: started before the keyring was written last"
        findings.append(warning("processes", text, OLDER))
    return findings or [ok("processes", f"{', '.join(report.health)} are ready")]
