"""The hash chain gives the bytes that it always gave, in Python and in PostgreSQL (RULES 26).

A changed vector would mean that every journal there is reads as broken.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from ledger.chain import GENESIS, Entry, entry_hash
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database

MESSAGE = UUID("01938a3e-7b00-7abc-8def-0123456789ab")
TOP_UP = Entry(
    account_id=7, version=1, at=datetime(2026, 11, 21, 10, 0, 0, 123456, UTC), kind="top_up", message_id=None,
    debit_account=3, credit_account=7, amount_micros=10_000_000_000, posted_after_micros=10_000_000_000,
    held_after_micros=0, reference="invoice-1", reason=None,
)  # fmt: skip
HOLD = Entry(
    account_id=7, version=2, at=datetime(2026, 11, 21, 10, 0, 1, 7, UTC), kind="hold", message_id=MESSAGE,
    debit_account=7, credit_account=1, amount_micros=7_900, posted_after_micros=10_000_000_000,
    held_after_micros=7_900, reference=None, reason=None,
)  # fmt: skip
CAPTURE = Entry(
    account_id=7, version=3, at=datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), kind="capture",
    message_id=MESSAGE, debit_account=1, credit_account=2, amount_micros=7_900,
    posted_after_micros=9_999_992_100, held_after_micros=0, reference="", reason="zugestellt – übergeben 😀",
)  # fmt: skip
LATE = replace(CAPTURE, version=4, kind="late_capture", posted_after_micros=-(2**63), amount_micros=2**63 - 1)
VECTORS = [
    (TOP_UP, "d9c28de372ed4f716c6423a4a4e32a0f67acb5d5be577607b41bdc9a77ab256e"),
    (HOLD, "997f9e27a45f921cf2d259a8a7222c968608f3fa6bb1f688f7f966bf78d8df06"),
    (CAPTURE, "1604dde0bdd36081c73898d3820f1edb610f292abe9ff2fb9b06ff2685264db3"),
    (LATE, "780ec7edbc09372dc11454c8b196c2bbc01a974c1d6ebd025d0ad5409ec4072e"),
]
SQL = """
select ledger.entry_hash_v1($1, $2, $3, (extract(epoch from $4::timestamptz) * 1000000)::bigint,
    $5::text::ledger.entry_kind, $6, $7, $8, $9, $10, $11, $12, $13)
"""


async def hash_in_sql(flow: Flow, previous: bytes, entry: Entry, zone: str = "UTC") -> bytes:
    fields = [getattr(entry, name) for name in Entry.__slots__]
    async with flow.pool.acquire() as conn, conn.transaction():
        await conn.execute(f"set local time zone '{zone}'")
        return bytes(await conn.fetchval(SQL, previous, *fields))


def test_a_chain_gives_the_golden_hashes() -> None:
    previous = GENESIS
    for entry, golden in VECTORS:
        previous = entry_hash(previous, entry)
        assert previous.hex() == golden


async def test_the_database_gives_the_same(database: Database) -> None:
    previous = GENESIS
    async with open_flow(database) as flow:
        for entry, golden in VECTORS:
            previous = await hash_in_sql(flow, previous, entry)
            assert previous.hex() == golden


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
async def test_the_hash_is_the_same_in_every_time_zone(database: Database, zone: str) -> None:
    there = replace(TOP_UP, at=TOP_UP.at.astimezone(timezone(timedelta(hours=5, minutes=45))))
    assert entry_hash(GENESIS, there).hex() == VECTORS[0][1]
    async with open_flow(database) as flow:
        assert (await hash_in_sql(flow, GENESIS, TOP_UP, zone)).hex() == VECTORS[0][1]


@pytest.mark.parametrize("name", Entry.__slots__)
def test_every_column_is_in_the_hash(name: str) -> None:
    others: dict[str, Any] = {
        "at": TOP_UP.at + timedelta(microseconds=1),
        "kind": "adjustment",
        "message_id": MESSAGE,
    }
    others |= {"reference": None, "reason": ""}
    value: Any = others.get(name, 99)
    assert entry_hash(GENESIS, replace(TOP_UP, **{name: value})) != entry_hash(GENESIS, TOP_UP)


async def test_the_journal_that_the_functions_write_is_a_chain_in_python(database: Database) -> None:
    names = ", ".join(name if name != "kind" else "kind::text" for name in Entry.__slots__)
    async with open_flow(database) as flow:
        account = await flow.client()
        await flow.accepted(account, 5)
        rows = await flow.pool.fetch(f"select {names}, hash from ledger.entries order by version")
        head = (await flow.account(account))["chain_head"]
    previous = GENESIS
    for row in rows:
        *fields, stored = row
        previous = entry_hash(previous, Entry(*fields))
        assert previous == stored
    assert previous == head
