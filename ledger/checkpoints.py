"""Closed days: a checkpoint for each account that moved, and one signed seal over them all (RULES 27).

The root of a seal is sha256 over the byte 2, the day, the root of the seal before it, and each checkpoint
by account: so the seals are a chain over all chain heads, and a sealed day is proved by its seal alone.
"""

import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

from ledger.verify_span import FIRST
from shared.runtime.keyring import Keyring
from shared.runtime.postgres import Connection

_SEAL: Final = b"\x02"
NO_ROOT: Final = bytes(32)
# Accounts in one call: each is one look-up of its last entry, and a call stays far below a second.
ACCOUNTS_A_CALL: Final = 1_000
# Entries that are added up in one call: an account's lie apart, and each may have to come from the disk.
ENTRIES_A_CALL: Final = 10_000
KEY_USE: Final = b"tollwire ledger seal 1"


class Signer(Protocol):
    """Signs seals and knows its own signatures again."""

    @property
    def key_id(self) -> str: ...
    def sign(self, text: bytes) -> bytes: ...
    def is_signed(self, text: bytes, signature: bytes, key_id: str) -> bool: ...


class KeyringSigner:
    """HMAC-SHA256 under a key that is derived from a key of the keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @property
    def key_id(self) -> str:
        """The key that signs now."""
        return self._keyring.active

    def sign(self, text: bytes) -> bytes:
        """Return 32 bytes."""
        return self._mac(text, self.key_id)

    def is_signed(self, text: bytes, signature: bytes, key_id: str) -> bool:
        """True when the signature is the one that this key gives; a key that is gone proves nothing."""
        return key_id in self._keyring.key_ids and hmac.compare_digest(self._mac(text, key_id), signature)

    def _mac(self, text: bytes, key_id: str) -> bytes:
        derived = hmac.digest(self._keyring.key(key_id), KEY_USE, "sha256")
        return hmac.digest(derived, text, "sha256")


@dataclass(frozen=True, slots=True)
class Seal:
    """One day of all accounts. ``amounts``: for each currency and kind, entries and micros."""

    day: date
    accounts: int
    entries: int
    amounts: Mapping[str, Mapping[str, Any]]
    root: bytes

    def text(self) -> bytes:
        """What is signed."""
        amounts = json.dumps(self.amounts, sort_keys=True, separators=(",", ":"))
        return f"{self.day.isoformat()} {self.accounts} {self.entries} {self.root.hex()} {amounts}".encode()


@dataclass(frozen=True, slots=True)
class SignedSeal:
    """A seal, who signed it, and the root of the seal before it, which is in its own root."""

    seal: Seal
    root_before: bytes
    signature: bytes
    key_id: str


CLOSE_DAY: Final = "select o_last, o_made from ledger.close_day_v1($1, $2, $3)"
SEAL_DAY: Final = "select ledger.seal_day_v1($1, $2, $3, $4::text::jsonb, $5, $6, $7)"


async def close_day(conn: Connection, day: date, signer: Signer) -> Seal:
    """Write the day's checkpoints and seal them; the caller has verified the day. Repeating it is harmless.

    An entry of a commit that waited for longer than that proof is in the seal, too; ``--full`` proves it.

    Raises:
        asyncpg.InvalidParameterValueError: the day is not over.
        asyncpg.RestrictViolationError: the day, or a later one, is sealed already; or there are new accounts
            of a clock that was set back: the next time they are closed too.
        asyncpg.LockNotAvailableError: somebody holds an account that may have one more entry of the day.
    """
    after: int | None = 0
    while after is not None:  # mostly twice from one place: the first call ends the day of idle accounts
        row = await conn.fetchrow(CLOSE_DAY, day, after, ACCOUNTS_A_CALL)
        after = row["o_last"] if row else None
    amounts = await day_amounts(conn, day)
    entries = sum(kind["entries"] for kinds in amounts.values() for kind in kinds.values())
    accounts, root = await root_of(conn, day, await root_before(conn, day))
    seal = Seal(day, accounts, entries, amounts, root)
    signature = signer.sign(seal.text())
    text = json.dumps(amounts)
    await conn.fetchval(SEAL_DAY, day, accounts, entries, text, root, signature, signer.key_id)
    return seal


# Entries after (account, version) $2, $3 in the order of the primary key; a group's last place is the page's.
# As text: the sum of what may be posted in a day need not fit into 64 bits.
DAY_AMOUNTS: Final = """
with page as materialized (
    select e.account_id, e.version, e.kind, e.amount_micros from ledger.entries e
    where e.day = $1 and (e.account_id, e.version) > ($2, $3) order by e.account_id, e.version limit $4
)
select l.account_id, l.version, a.currency, p.kind::text, count(*), sum(p.amount_micros)::text
from (select account_id, version from page order by account_id desc, version desc limit 1) l
left join (page p join ledger.accounts a on a.id = p.account_id) on true
group by l.account_id, l.version, a.currency, p.kind
"""


async def day_amounts(conn: Connection, day: date) -> dict[str, dict[str, dict[str, int]]]:
    """Count and add up a day's entries: {currency: {kind: {"entries": n, "micros": n}}}.

    Page by page: a statement over all of a large day would not end within the role's statement_timeout.
    """
    amounts: dict[str, dict[str, dict[str, int]]] = {}
    after: tuple[int, int] | None = (FIRST, FIRST)
    while after is not None:
        rows = await _page_of_amounts(conn, day, after)
        after = (rows[0][0], rows[0][1]) if rows else None
        for _, _, currency, kind, entries, micros in rows:
            if currency is None:
                continue  # a page of entries of no account, which the proof names
            of_kind = amounts.setdefault(currency, {}).setdefault(kind, {"entries": 0, "micros": 0})
            of_kind["entries"] += entries
            of_kind["micros"] += int(micros)
    return amounts


async def _page_of_amounts(conn: Connection, day: date, after: tuple[int, int]) -> list[tuple[Any, ...]]:
    async with conn.transaction():
        # Planned for a page of this day, never by reading and sorting all of it for each.
        await conn.execute("set local enable_seqscan = off; set local plan_cache_mode = force_custom_plan")
        return [tuple(row) for row in await conn.fetch(DAY_AMOUNTS, day, *after, ENTRIES_A_CALL)]


ROOT_BEFORE: Final = "select root from ledger.seals where day < $1 order by day desc limit 1"
ROOT: Final = """
select count(*), sha256($2 || coalesce(string_agg(
    int8send(account_id) || int8send(version) || int8send(posted_micros) || int8send(held_micros)
    || chain_head, ''::bytea order by account_id), ''))
from ledger.checkpoints where day = $1
"""


async def root_before(conn: Connection, day: date) -> bytes:
    """Return the root of the newest seal before a day; zeros when it is the first."""
    root = await conn.fetchval(ROOT_BEFORE, day)
    return NO_ROOT if root is None else bytes(root)


async def root_of(conn: Connection, day: date, before: bytes) -> tuple[int, bytes]:
    """Return how many checkpoints a day has and the root over them."""
    row = await conn.fetchrow(ROOT, day, _SEAL + struct.pack(">i", day.toordinal()) + before)
    return (row[0], bytes(row[1])) if row else (0, b"")


SEALS: Final = """
select day, accounts, entries, amounts::text, root, lag(root) over (order by day), signature, key_id
from ledger.seals order by day
"""


async def load_seals(conn: Connection) -> list[SignedSeal]:
    """Return every seal there is, oldest first."""
    return [
        SignedSeal(
            Seal(day, accounts, entries, json.loads(amounts), bytes(root)),
            bytes(before or NO_ROOT),
            bytes(signature),
            key_id,
        )
        for day, accounts, entries, amounts, root, before, signature, key_id in await conn.fetch(SEALS)
    ]


# One entry of a day is looked for, day by day; as a condition it would be a join with the whole journal.
UNSEALED: Final = """
select d.day from (
    select to_date(substring(c.relname from '[0-9]{8}$'), 'YYYYMMDD') as day
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ledger.entries'::regclass) d
cross join lateral (select from ledger.entries e where e.day = d.day limit 1) e
where d.day < $1 and d.day > coalesce((select max(day) from ledger.seals), '-infinity')
order by d.day
"""


async def unsealed_days(conn: Connection, today: date) -> list[date]:
    """Return the days before ``today`` that have entries and no seal, oldest first."""
    return [row[0] for row in await conn.fetch(UNSEALED, today)]
