"""Whose data a link leads to, where a home's ``postgresql`` is one (see accounts).

A copy of such a home holds a copy of the link and no data: what it starts, stops or removes would be
another home's database. So the folder that the link names says which link is its own, by place and
inode: a home that was moved on its file system keeps the inode, one that was restored where it stood has
the place. One that was moved to another file system looks like a copy: its operator knows that it is none.
"""

import re
import shlex
from pathlib import Path

from embedded.files import place_and_inode, write_private
from embedded.unit import StartFailed

OUR_TARGET = re.compile(r"postgresql-[0-9a-f]{16}")
RECORD = "home"  # in the folder that the link names: the link's place, then its device and inode


class NotItsData(StartFailed):
    """A home's link leads to nothing, or to the data of another home."""


def refuse_foreign(folder: Path) -> None:
    """Refuse a link that leads to nothing or to another home's data; a folder that is no link is fine.

    Raises:
        NotItsData: it says what to do.
    """
    if not folder.is_symlink():
        return
    target = folder.resolve()
    if not target.exists():
        raise NotItsData(_nothing_there(folder, target))
    record = _recorded(target)
    # One of the two lines is enough: a device's number may change with a restart of the machine.
    is_own = (
        set(place_and_inode(folder.absolute())) & set(record) if record else not _is_later(folder, target)
    )
    if not is_own:
        raise NotItsData(_of_another(folder, target, record))


def claim(folder: Path) -> None:
    """Write into the folder that the link names that it is this link's; a folder that is no link is fine."""
    if folder.is_symlink():
        write_private(
            folder.resolve() / RECORD, "".join(f"{line}\n" for line in place_and_inode(folder.absolute()))
        )


def _recorded(target: Path) -> list[str]:
    try:
        return (target / RECORD).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _is_later(link: Path, target: Path) -> bool:
    """Whether a link of an earlier version, which wrote no record, may have been copied.

    The home's own was there before the data; no copy keeps the time at which an inode was written. To give
    the home's own to another account, or another hard link, writes its inode too.
    """
    if not OUR_TARGET.fullmatch(target.name):
        return False  # a link that the operator made, to data that was there
    try:
        return link.lstat().st_ctime_ns > (target / "data" / "PG_VERSION").stat().st_ctime_ns
    except FileNotFoundError:
        return False


def _nothing_there(link: Path, target: Path) -> str:
    return (
        f"{link} leads to {target}, which is not there, so this home has no database. Put that folder back "
        "from a backup; a copy of the home holds the link alone. Where there is none any more, "
        f"{_removal(link.parent)}"
    )


def _of_another(link: Path, target: Path, record: list[str]) -> str:
    whose = (
        f"the database of {Path(record[0]).parent}" if record else "a database that is older than the link"
    )
    place, mark = (shlex.quote(str(path)) for path in (link, target / RECORD))
    return (
        f"{link} leads to {target}, {whose}: this home is perhaps a copy that has none of its own. "
        "Through it nothing is started, stopped or removed. If it is no copy, but was moved to another file "
        "system or given to another account, or if no other home has that database any more, "
        f"`echo {place} > {mark}` gives it to this one. If it is a copy, {_removal(link.parent)}"
    )


def _removal(home: Path) -> str:
    return (
        f"`rm -r {shlex.quote(str(home))}` removes it, with its keyring, keys, seals and archive: keep those "
        "that are nowhere else."
    )
