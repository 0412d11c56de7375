"""The keyring of an instance that starts: made for an empty database, and never for one that has its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from embedded.files import is_there
from embedded.unit import StartFailed
from shared.runtime.keyring import Keyring
from shared.runtime.postgres_hosts import connect
from shared.storage.sealed import is_any_sealed, what_stays_shut

# A server that is up answers at once; the role's own limit on a statement is 5 s.
CONNECT_SECONDS: Final = 10.0


async def own_keyring(file: Path, dsn_api: str, warn: Callable[[str], None]) -> Keyring:
    """Return the keyring in ``file``, which is made when nothing in the database needs one yet.

    One that does not open what is there is told by ``warn``, and used: an operator may have made another
    after the first was lost.

    Raises:
        StartFailed: there is none, and the database holds what one sealed.
        KeyringError: the file cannot be used.
        PermissionError: the file may not be looked at.
        OSError, asyncpg.PostgresError: the database does not answer or refuses.
    """
    connection = await connect(dsn_api, timeout=CONNECT_SECONDS)
    try:
        keyring = _found(file)
        if keyring is None:
            if await is_any_sealed(connection):
                raise StartFailed(_lost(file))
            return Keyring.generate(file)
        if shut := await what_stays_shut(connection, keyring):
            warn(
                f"{file} does not open {shut} that were looked at: is it the keyring of this database? "
                "Put the right one back and start again, before new texts are sealed with this one."
            )
        return keyring
    finally:
        await connection.close()


def _found(file: Path) -> Keyring | None:
    return Keyring.load(file) if is_there(file) else None


def _lost(file: Path) -> str:
    return (
        f"There is no keyring at {file}, and the database holds what one sealed. Bring it back, or name it "
        f"in TOLLWIRE_KEYRING_FILE. If it is lost for good: `tollwire keyring create {file}` makes another, "
        "and what the lost one sealed stays shut."
    )
