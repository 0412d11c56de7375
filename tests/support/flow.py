"""Clients, carriers and messages made by the real functions, for tests of the server side.

``async with open_flow(database) as flow``. It connects as the superuser: what each role may call is
tested in tests/integration/test_roles.py.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from msgspec.structs import replace

from api import store as api_store
from api.store import AcceptAnswer, AcceptItem
from dlr import store as dlr_store
from dlr.store import ReceivedReceipt, Settled
from ledger import clockwork_store
from ledger.clockwork_store import Moved
from shared.domain.ids import RANDOMNESS_BITS, uuid7_from
from shared.runtime.postgres import Pool, open_pool
from tests.support.servers import Database
from worker import store as worker_store
from worker.store import Claim, Outcome, Recorded

PRICE_MICROS = 7_900
MSISDN = "+4915112345678"
RICH_MICROS = 1_000_000_000
TRIES_MAX = 10
RECEIPT_WAIT_SECONDS = 3_600
LEASE_SECONDS = 60
_names = count(1)


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return uuid7_from(time.time_ns() // 1_000_000, secrets.randbits(RANDOMNESS_BITS))


def accept_item(client: int, **changes: Any) -> AcceptItem:
    """A message of one part to a German number, unless ``changes`` says otherwise; each segment is paid."""
    amount_micros = PRICE_MICROS * changes.get("segments", 1)
    item = AcceptItem(
        account_id=client, message_id=new_id(), key=None, item=0, fingerprint=b"f" * 32, refusal=None,
        refusal_args=None, amount_micros=amount_micros, max_price_micros=None, msisdn=MSISDN,
        region="DE", sender="ACME", lane="normal", encoding="GSM7", segments=1, currency="EUR",
        rate_version=1, client_ref=None, delivery="at_most_once", charge="delivered", send_at=None,
        valid_seconds=172_800, callback_url=None, is_test=False, text_sealed=b"sealed", text_days=7,
        carrier_id=1, parts=1, replay_of=None,
    )  # fmt: skip
    return replace(item, **changes)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """A pool that is as large as a test needs."""

    postgres_dsn: str
    postgres_pool_min: int = 1
    postgres_pool_max: int = 12


class Flow:
    """The way of messages on one database, a function call at a time."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def client(
        self, credit_micros: int = RICH_MICROS, *, currency: str = "EUR", interval_us: int = 0, **columns: Any
    ) -> int:
        """Open an account with credit, and the client that it belongs to."""
        account = int(
            await self.pool.fetchval("select ledger.open_account_v1($1, $2)", currency, interval_us)
        )
        await self.insert("tollwire.clients", id=account, name=f"client-{next(_names)}", **columns)
        if credit_micros:
            await self.credit(account, "top_up", credit_micros, "opening")
        return account

    async def carrier(self, **columns: Any) -> int:
        """A carrier of the kind ``http``."""
        row = {"name": f"carrier-{next(_names)}", "kind": "http", "settings": {}} | columns
        return int(await self.insert("tollwire.carriers", **row))

    async def endpoint(self, client: int, **columns: Any) -> int:
        """A callback endpoint of the client."""
        row = {"client_id": client, "url": "https://client.example/callbacks"} | columns
        return int(await self.insert("tollwire.callback_endpoints", **row))

    async def insert(self, table: str, **columns: Any) -> Any:
        """Insert a row and return its id."""
        places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        sql = f"insert into {table} ({', '.join(columns)}) values ({places}) returning id"
        return await self.pool.fetchval(sql, *columns.values())

    async def credit(self, account: int, kind: str, amount_micros: int, reference: str) -> asyncpg.Record:
        """Post a top-up, an adjustment or a credit limit."""
        sql = "select * from ledger.post_credit_v1($1, $2, $3, $4, 'test', null)"
        return await self.row(sql, account, kind, amount_micros, reference)

    async def accept(self, items: Sequence[AcceptItem], *, incarnation: int = 1) -> list[AcceptAnswer]:
        """Accept a flush."""
        return await api_store.accept_batch(self.pool, items, incarnation, LEASE_SECONDS)

    async def accepted(self, client: int, number: int = 1, **changes: Any) -> list[UUID]:
        """Accept so many messages in one flush and return their ids, in id order."""
        items = [accept_item(client, **changes) for _ in range(number)]
        answers = await self.accept(items)
        assert {answer.outcome for answer in answers} == {"accepted"}
        return sorted(item.message_id for item in items)

    async def claim(
        self,
        ids: Iterable[UUID],
        carrier: int,
        *,
        dispatch_no: int | None = None,
        claim_id: UUID | None = None,
    ) -> list[Claim]:
        """Claim messages with the dispatch number that the outbox has now, or with a given one."""
        ids = list(ids)
        sql = "select message_id, dispatch_no from tollwire.outbox where message_id = any ($1)"
        rows = await self.pool.fetch(sql, ids)
        numbers = {row[0]: row[1] for row in rows}
        work = [(id_, numbers.get(id_, 0) if dispatch_no is None else dispatch_no) for id_ in ids]
        return await worker_store.claim_batch(self.pool, work, carrier, 60, claim_id or uuid4())  # type: ignore[arg-type] # a uuid or its text

    async def record(
        self,
        outcomes: Sequence[Outcome],
        carrier: int,
        *,
        may_ask_again: bool = False,
        tries_max: int = TRIES_MAX,
    ) -> list[Recorded]:
        """Record outcomes of attempts."""
        return await worker_store.record_batch(
            self.pool, outcomes, carrier, may_ask_again=may_ask_again, tries_max=tries_max,
            receipt_wait_seconds=RECEIPT_WAIT_SECONDS,
        )  # fmt: skip

    async def submitted(self, ids: Sequence[UUID], carrier: int) -> list[str]:
        """Claim and record as submitted, every part; return the references, one a message and part."""
        claims = await self.claim(ids, carrier)
        assert {claim.refusal for claim in claims} == {None}
        outcomes = []
        for id_, claim in zip(ids, claims, strict=True):
            outcomes += [outcome(id_, claim.attempt_no, "submitted", part=part) for part in claim.parts or []]
        await self.record(outcomes, carrier)
        return [str(line.reference) for line in outcomes]

    @staticmethod
    def new_receipt(carrier: int, reference: str, state: str, **changes: Any) -> ReceivedReceipt:
        """A receipt as a carrier sends it."""
        return ReceivedReceipt(
            receipt_id=new_id(), carrier_id=carrier, reference=reference, state=state, done_at=None,
            msisdn=None, error_code=None, part_no=None, echo_message_id=None, echo_attempt_no=None,
        )._replace(**changes)  # fmt: skip

    async def receive(self, carrier: int, reference: str, state: str, **changes: Any) -> UUID:
        """Keep a receipt and return its id."""
        receipt = self.new_receipt(carrier, reference, state, **changes)
        await dlr_store.receive_batch(self.pool, [receipt])
        return receipt.receipt_id

    async def settle(self, receipt_ids: Sequence[UUID]) -> list[Settled]:
        """Settle kept receipts."""
        return await dlr_store.settle_batch(self.pool, receipt_ids, LEASE_SECONDS)

    async def receipt(self, carrier: int, reference: str, state: str, **changes: Any) -> Settled:
        """Keep a receipt and settle it."""
        (settled,) = await self.settle([await self.receive(carrier, reference, state, **changes)])
        return settled

    async def cancel(self, client: int, ids: Iterable[UUID]) -> list[str]:
        """Cancel messages of a client."""
        return [
            answer.outcome for answer in await api_store.cancel_batch(self.pool, [(client, i) for i in ids])
        ]

    async def expire(self, ids: Sequence[UUID]) -> list[Moved]:
        """End what waited too long, among these."""
        return await clockwork_store.expire_due(self.pool, ids)

    async def row(self, sql: str, *args: object) -> asyncpg.Record:
        """The only row of a query."""
        (row,) = await self.pool.fetch(sql, *args)
        return row

    async def account(self, account: int) -> asyncpg.Record:
        """An account's row."""
        return await self.row("select * from ledger.accounts where id = $1", account)

    async def state(self, message_id: UUID) -> str:
        """A message's state."""
        return str((await self.state_row(message_id))["state"])

    async def state_row(self, message_id: UUID) -> asyncpg.Record:
        """The changing part of a message."""
        return await self.row("select * from tollwire.message_states where message_id = $1", message_id)

    async def lock(self, message_id: UUID) -> asyncpg.Record:
        """A message's hold."""
        return await self.row("select * from ledger.credit_locks where message_id = $1", message_id)

    async def outbox(self, message_id: UUID) -> asyncpg.Record | None:
        """A message's outbox row, if it has one."""
        return await self.pool.fetchrow("select * from tollwire.outbox where message_id = $1", message_id)

    async def kinds(self, account: int) -> list[str]:
        """The kinds of an account's entries, oldest first."""
        sql = "select kind::text from ledger.entries where account_id = $1 order by version"
        return [row[0] for row in await self.pool.fetch(sql, account)]

    async def later(self, ids: Sequence[UUID], seconds: float) -> None:
        """Let time pass for messages: move every moment that they wait for into the past."""
        moments = {
            "tollwire.messages": ("id", "valid_until"),
            "tollwire.outbox": ("message_id", "due_at", "leased_at", "dispatch_at"),
            "tollwire.message_states": ("message_id", "claim_deadline", "submitted_at"),
        }
        for table, (key, *columns) in moments.items():
            moved = ", ".join(f"{column} = {column} - $2::text::interval" for column in columns)
            sql = f"update {table} set {moved} where {key} = any ($1)"
            await self.pool.execute(sql, ids, f"{seconds} seconds")


def outcome(message_id: UUID, attempt_no: int, word: str, *, part: int = 1, **changes: Any) -> Outcome:
    """An attempt's outcome; a submitted one has a reference of its own."""
    reference = f"ref-{message_id}-{attempt_no}-{part}" if word == "submitted" else None
    line = Outcome(
        message_id=message_id, attempt_no=attempt_no, part_no=part, outcome=word, reference=reference,
        error=None, detail=None, retry_seconds=1.0, next_carrier_id=None,
    )  # fmt: skip
    return line._replace(**changes)


@asynccontextmanager
async def open_flow(database: Database, role: str = "postgres") -> AsyncIterator[Flow]:
    """A flow on a test's database."""
    async with open_pool(PoolSettings(database.dsn(role)), application_name="tollwire-test") as pool:
        yield Flow(pool)
