"""Two accounts on one machine, for tests that root runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.accounts import unprivileged_account

IS_ROOT = os.geteuid() == 0
NEEDS_ROOT = "only root is two accounts"


@contextmanager
def another_account() -> Iterator[None]:
    """Be ``nobody`` while the block lasts, for everything that asks for files. Only for root."""
    account = unprivileged_account()
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def give_away(folder: Path) -> None:
    """Make a folder, with all that is in it, ``nobody``'s."""
    account = unprivileged_account()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid)
