"""What in the database only its keyring opens: is there any, and is a keyring the right one?"""

from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.postgres import Connection, Pool
from shared.storage.callback_endpoints import callback_secret_aad
from shared.storage.carriers import carrier_secret_aad

# Of each kind, as many of the oldest and of the newest: a keyring that came later opens what came after it.
SAMPLE_ROWS: Final = 20

IS_ANY_SEALED: Final = """
    select exists (select from tollwire.carriers where secret_sealed is not null)
        or exists (select from tollwire.callback_secrets)
        or exists (select from tollwire.message_texts)
"""
# What a seal is bound to is beside it: the id of a carrier, of an endpoint, or of a message.
SAMPLES: Final = """
    (select 'secrets of carriers' as kind, id::text as bound_to, secret_sealed as sealed
     from tollwire.carriers where secret_sealed is not null order by id limit $1)
    union (select 'secrets of carriers', id::text, secret_sealed
     from tollwire.carriers where secret_sealed is not null order by id desc limit $1)
    union (select 'secrets of callbacks', endpoint_id::text, sealed
     from tollwire.callback_secrets order by id limit $1)
    union (select 'secrets of callbacks', endpoint_id::text, sealed
     from tollwire.callback_secrets order by id desc limit $1)
    union (select 'texts', message_id::text, sealed from tollwire.message_texts order by message_id limit $1)
    union (select 'texts', message_id::text, sealed
     from tollwire.message_texts order by message_id desc limit $1)
"""
BOUND_TO: Final[Mapping[str, Callable[[str], bytes]]] = {
    "secrets of carriers": lambda id_: carrier_secret_aad(int(id_)),
    "secrets of callbacks": lambda id_: callback_secret_aad(int(id_)),
    "texts": lambda id_: UUID(id_).bytes,
}

_log = structlog.get_logger(__name__)


async def is_any_sealed(connection: Connection) -> bool:
    """True when the database holds something that only its keyring opens. Roles: api, ledger."""
    return bool(await connection.fetchval(IS_ANY_SEALED))


async def what_stays_shut(connection: Connection, keyring: Keyring) -> str:
    """Say how much of a sample of each kind the keyring does not open; empty: it opens all.

    Roles: api, ledger.
    """
    looked_at, shut = Tally[str](), Tally[str]()
    for kind, bound_to, sealed in await connection.fetch(SAMPLES, SAMPLE_ROWS):
        looked_at[kind] += 1
        try:
            keyring.unseal(sealed, BOUND_TO[kind](bound_to))
        except SealBroken:
            shut[kind] += 1
    return ", ".join(f"{count} of {looked_at[kind]} {kind}" for kind, count in sorted(shut.items()))


async def tell_what_stays_shut(pool: Pool, keyring: Keyring) -> None:
    """Say it in the log, for a process that begins. It decides nothing."""
    try:
        async with pool.acquire() as connection:
            shut = await what_stays_shut(connection, keyring)
    except (asyncpg.PostgresError, OSError) as error:
        _log.warning("could not look whether the keyring is the right one", error=str(error))
        return
    if shut:
        _log.error("the keyring does not open what the database holds", shut=shut, keys=keyring.key_ids)
