"""Sealed anew with the active key: secrets of carriers and of callback endpoints (DESIGN 10).

Texts are not: they expire within weeks. An old key may leave the keyring when nothing is sealed with it
any more, and no seal of a closed day is signed by it (``tollwire keyring status``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from shared.domain.ids import uuid7_time_ms
from shared.runtime.keyring import Keyring, SealBroken
from shared.runtime.postgres import Pool, call
from shared.storage.callback_endpoints import callback_secret_aad
from shared.storage.carriers import carrier_secret_aad

CALL_DEADLINE_SECONDS: Final = 20.0
# Secrets in a call: opening and sealing them takes a few milliseconds.
CHUNK_ROWS: Final = 500
# Texts looked at in a call, about 0.1 s.
TEXT_ROWS: Final = 20_000

RESEALED: Final = Counter("tollwire_resealed_total", "Secrets sealed anew with the active key", ["kind"])
BROKEN: Final = Gauge("tollwire_sealed_broken", "Secrets that no key of the keyring opens", ["kind"])

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Secrets:
    """One kind of sealed secrets: where they are, and what their seal is bound to."""

    kind: str
    select: str
    replace: str
    aad: Callable[[int], bytes]


class Sealed(NamedTuple):
    """A secret of an older key. ``bound_to`` is the id that its seal is bound to."""

    id: int
    bound_to: int
    sealed: bytes


KINDS: Final = (
    Secrets(
        "carrier",
        """
        select id, id, secret_sealed from tollwire.carriers
        where secret_sealed is not null and tollwire.key_id_v1(secret_sealed) is distinct from $1 and id > $2
        order by id limit $3
        """,
        "select tollwire.reseal_carriers_v1($1, $2, $3)",
        carrier_secret_aad,
    ),
    Secrets(
        "callback_secret",
        """
        select id, endpoint_id, sealed from tollwire.callback_secrets
        where tollwire.key_id_v1(sealed) is distinct from $1 and id > $2 order by id limit $3
        """,
        "select tollwire.reseal_callback_secrets_v1($1, $2, $3)",
        callback_secret_aad,
    ),
)


class Reseal:
    """The ledger process's loop over what is sealed with older keys.

    The keyring is read in each run: a key is made active only when every process knows it
    (``tollwire keyring rotate``), so nobody has to be restarted for it.
    """

    def __init__(self, pool: Pool, keyring_file: Path) -> None:
        self._pool = pool
        self._keyring_file = keyring_file

    async def run_once(self) -> int:
        """Seal anew what is not sealed with the active key; return how many secrets that were.

        Raises:
            KeyringError: the keyring file cannot be used.
        """
        keyring = Keyring.load(self._keyring_file)
        return sum([await self._reseal(secrets, keyring) for secrets in KINDS])

    async def _reseal(self, secrets: Secrets, keyring: Keyring) -> int:
        replaced = broken = 0
        after = 0
        while rows := await self._older(secrets, keyring.active, after):
            after = rows[-1].id
            opened = [(row, _sealed_anew(keyring, secrets, row)) for row in rows]
            whole = [(row, new) for row, new in opened if new is not None]
            broken += len(rows) - len(whole)
            replaced += await self._replace(secrets, whole)
        BROKEN.labels(secrets.kind).set(broken)
        if replaced:
            RESEALED.labels(secrets.kind).inc(replaced)
            _log.info("sealed anew", kind=secrets.kind, count=replaced, key=keyring.active)
        return replaced

    async def _older(self, secrets: Secrets, active: str, after: int) -> list[Sealed]:
        rows = await call(
            self._pool, secrets.select, active, after, CHUNK_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS
        )
        return [Sealed(*row) for row in rows]

    async def _replace(self, secrets: Secrets, whole: Sequence[tuple[Sealed, bytes]]) -> int:
        if not whole:
            return 0
        ids, old = [row.id for row, _ in whole], [row.sealed for row, _ in whole]
        new = [sealed for _, sealed in whole]
        (row,) = await call(
            self._pool, secrets.replace, ids, old, new, deadline_seconds=CALL_DEADLINE_SECONDS
        )
        return int(row[0])


def _sealed_anew(keyring: Keyring, secrets: Secrets, row: Sealed) -> bytes | None:
    aad = secrets.aad(row.bound_to)
    try:
        return keyring.seal(keyring.unseal(row.sealed, aad), aad)
    except SealBroken as error:
        _log.error("a secret does not open", kind=secrets.kind, id=row.id, error=str(error))
        return None


@dataclass(slots=True)
class KeyUses:
    """How much is sealed or signed with one key."""

    carriers: int = 0
    callback_secrets: int = 0
    texts: int = 0
    seals: int = 0

    @property
    def total(self) -> int:
        """0: nothing needs the key."""
        return self.carriers + self.callback_secrets + self.texts + self.seals


@dataclass(slots=True)
class Uses:
    """The uses of every key, by key id; a value that is not sealed as ours counts under ``?``."""

    by_key: dict[str, KeyUses] = field(default_factory=dict)

    def add(self, key_id: str | None, what: str, count: int) -> None:
        """Count some more uses of a key."""
        uses = self.by_key.setdefault(key_id or "?", KeyUses())
        setattr(uses, what, getattr(uses, what) + count)


COUNTS: Final = {
    "carriers": """
        select tollwire.key_id_v1(secret_sealed), count(*) from tollwire.carriers
        where secret_sealed is not null group by 1
    """,
    "callback_secrets": """
        select tollwire.key_id_v1(sealed), count(*) from tollwire.callback_secrets group by 1
    """,
    "seals": "select key_id, count(*) from ledger.seals group by 1",
}
TEXTS: Final = """
    select c.key_id, count(*), max(c.message_id::text collate "C") from (
        select message_id, tollwire.key_id_v1(sealed) as key_id from tollwire.message_texts
        where message_id > $1 order by message_id limit $2) c
    group by 1
"""


async def key_uses(pool: Pool, progress: Callable[[str, datetime], None]) -> Uses:
    """Count what each key is still needed for, text by text."""
    uses = Uses()
    for what, sql in COUNTS.items():
        for key_id, count in await call(pool, sql, deadline_seconds=CALL_DEADLINE_SECONDS):
            uses.add(key_id, what, count)
    after = UUID(int=0)
    while rows := await call(pool, TEXTS, after, TEXT_ROWS, deadline_seconds=CALL_DEADLINE_SECONDS):
        for key_id, count, _ in rows:
            uses.add(key_id, "texts", count)
        after = UUID(max(str(row[2]) for row in rows))
        progress("looking at texts", datetime.fromtimestamp(uuid7_time_ms(after) / 1000, UTC))
    return uses
