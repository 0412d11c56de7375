"""Whose a home is: who may not use it is told the file that stands in the way, its owner, and the way out."""

import os
import pwd
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeGuard

import click

from embedded.linked_data import NotItsData

ELSEWHERE = "or name another folder in TOLLWIRE_HOME."


class NotOurs(click.ClickException):
    """A file or a folder that this account may not use."""


@contextmanager
def told_whose(home: Path) -> Iterator[None]:
    """Tell of what may not be used in the home, or on the way to it, by NotOurs.

    Of a copy without data too (embedded/linked_data.py), by its own sentence.
    """
    try:
        yield
    except NotItsData as error:
        raise click.ClickException(str(error)) from None
    except PermissionError as error:
        raise not_ours(error, home) from None


def not_ours(error: PermissionError, home: Path) -> NotOurs:
    """What to say of a file that may not be used: whose it is, and what helps."""
    place, found = _in_the_way(home if error.filename is None else Path(os.fsdecode(error.filename)))
    owner, own = _name(found.st_uid), _name(os.geteuid())
    if found.st_uid == os.geteuid():
        mode = f"{found.st_mode & 0o7777:o}"
        return NotOurs(f"{place} is closed to {own}, whose it is (mode {mode}): {error.strerror}.")
    if place != home and place.is_relative_to(home) and home.stat().st_uid == os.geteuid():
        command = f"sudo chown -R {own} {shlex.quote(str(home))}"
        return NotOurs(f"{place} belongs to {owner}, in a folder of {own}: `{command}` gives it back.")
    return NotOurs(f"{place} belongs to {owner}. Run this command as {owner}, {ELSEWHERE}")


def is_about(error: BaseException, home: Path) -> TypeGuard[PermissionError]:
    """Whether it is a file of the home that may not be used, and no program or port."""
    return (
        isinstance(error, PermissionError)
        and error.filename is not None
        and Path(os.fsdecode(error.filename)).is_relative_to(home)
    )


def refuse_for_root(home: Path, mark: Path) -> None:
    """Refuse what would leave files of root in another account's home: its owner could not read them.

    Args:
        home: named when it is refused.
        mark: a file of who made the home. The folder may be another's: a container's root finds it mounted.

    Raises:
        NotOurs: we are root, and another account made the home.
    """
    found = mark.stat()
    if os.geteuid() == 0 != found.st_uid:
        owner = _name(found.st_uid)
        raise NotOurs(
            f"{home} belongs to {owner}, who could not read what root writes there. "
            f"Run this command as {owner}, {ELSEWHERE}"
        )


def _in_the_way(file: Path) -> tuple[Path, os.stat_result]:
    """The file, or the nearest folder above it that can be seen: what hides it, or lets none be made."""
    for place in (file, *file.parents):
        with suppress(OSError):
            return place, place.stat()
    raise RuntimeError(f"nothing above {file} can be seen")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
