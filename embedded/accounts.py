"""Which account PostgreSQL runs as, and which folders that account can reach.

PostgreSQL refuses to run as root. Under root it runs as ``nobody``, who may be unable to enter the
folder that its programs or its data are in (a checkout below /root). Then the programs are copied
to, and the data is kept in, a folder below /var/lib/tollwire. The modes of folders that are not ours
are never touched.
"""

import os
import pwd
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from embedded.child import Identity
from embedded.files import remove_tree
from embedded.linked_data import RECORD, claim, refuse_foreign
from embedded.unit import NotInstalled

SYSTEM_FOLDER = Path("/var/lib/tollwire")
UNPRIVILEGED = "nobody"
SHARED_MODE = 0o755
FOLDER_MODE = 0o711  # another account reaches its own folder below, and lists nothing on the way


def unprivileged_account() -> Identity:
    """Return the account that root's PostgreSQL runs as.

    Raises:
        NotInstalled: this system has no account ``nobody``.
    """
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise NotInstalled(
            f"PostgreSQL does not run as root, and there is no account {UNPRIVILEGED!r} to run it as: "
            "start Tollwire as an ordinary user"
        ) from None
    return Identity(entry.pw_uid, entry.pw_gid)


def account_for(data: Path) -> Identity | None:
    """Return the account that runs PostgreSQL on this data folder; None means the present one.

    Root runs a folder that exists as its owner (an ordinary user may have made it), else as nobody.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Identity(owner.st_uid, owner.st_gid)
    return unprivileged_account()


def is_open_to_all(path: Path) -> bool:
    """True when every account can reach ``path`` and read it: each folder above lets everybody through."""
    resolved = path.resolve()
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in resolved.parents):
        return False
    needed = stat.S_IXOTH if resolved.is_dir() else stat.S_IROTH
    return bool(resolved.stat().st_mode & needed)


def reachable_folder(folder: Path, system_folder: Path = SYSTEM_FOLDER) -> Path:
    """Return the folder where PostgreSQL's files really are, making it when it is missing.

    It is ``folder`` itself unless we are root and another account cannot get there: then ``folder``
    becomes a link to a folder of its own below ``system_folder``, and stays that.

    Raises:
        NotItsData: it is a link to nothing, or to another home's data.
    """
    if folder.is_symlink():
        refuse_foreign(folder)
        return folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or folder.exists() or is_open_to_all(folder.parent):
        return _made(folder)
    _make_system_folder(system_folder)
    # A name of its own, not one made from the path: the folder that has the link may be moved or made anew.
    target = _made(system_folder / f"{folder.name}-{secrets.token_hex(8)}")
    folder.symlink_to(target)
    claim(folder)
    return target


def _made(folder: Path) -> Path:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(FOLDER_MODE)  # whatever the umask says
    return folder


def remove_folder(folder: Path) -> None:
    """Remove what ``reachable_folder`` made, wherever it is; a folder that is gone is fine.

    Raises:
        NotItsData: it is a link to nothing, or to another home's data.
    """
    refuse_foreign(folder)
    if folder.exists():
        remove_tree(folder, last=(RECORD,))


def copy_for_all(trees: dict[str, Path], name: str, system_folder: Path = SYSTEM_FOLDER) -> Path:
    """Copy program trees (place in the copy → source) to a folder that everybody can read; return it.

    A copy that is there already is used again; one that was broken off never gets the name.
    """
    final = system_folder / name
    if final.exists():
        return final
    _make_system_folder(system_folder)
    # A name that nobody had: what a copy that was broken off left behind may bear our pid.
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=system_folder))
    try:
        for place, source in trees.items():
            shutil.copytree(source, scratch / place, symlinks=True)
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                path.chmod(SHARED_MODE)
        os.sync()  # after a power cut the name must not stand for files without content
        scratch.rename(final)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if not (isinstance(error, OSError) and final.exists()):  # else another process was faster
            raise
    return final


def _make_system_folder(system_folder: Path) -> None:
    system_folder.mkdir(parents=True, exist_ok=True)
    system_folder.chmod(SHARED_MODE)
