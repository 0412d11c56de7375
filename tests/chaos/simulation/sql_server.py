"""The real server functions as a server: real SQL on a real PostgreSQL, only its clock is ours.

Their search path gets a schema of ours in front of pg_catalog, and in it a ``clock_timestamp`` that tells the
simulation's time. Not a letter of the functions changes. Runs share a database, which each finds empty.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from api import store as api_store
from api.store import AcceptItem
from dlr import store as dlr_store
from dlr.store import CallbackRecord, ReceivedReceipt
from ledger import clockwork_store
from ledger.clockwork_store import Dispatch
from shared.runtime.postgres import Pool
from tests.chaos.simulation.wire import (
    CALL_US,
    CLAIM_SECONDS,
    LEASE_SECONDS,
    NO_RECEIPT_SECONDS,
    RECEIPT_WAIT_SECONDS,
    START,
    TRIES_MAX,
    Answer,
    Carrier,
    Client,
    Line,
    Rows,
    Want,
    Word,
    moment,
)
from tests.support.flow import accept_item
from worker import store as worker_store
from worker.store import Outcome

SQL_FOLDER: Final = Path(__file__).with_name("sql")
TELL_TIME: Final = "select set_config('sim.now', $1, false)"
SNAPSHOT_AND_TIME: Final = "select sim.snapshot($1, $2, $3), set_config('sim.now', $4, false)"
DUE_MAX: Final = 2_000
CALLBACKS_MAX: Final = 1_000


# Every run finds the same empty tables: guards are off for this one statement alone.
FORGET: Final = "set session_replication_role = replica; {} set session_replication_role = origin".format(
    "".join(
        f"delete from {table}; "
        for table in (
            "ledger.entries", "ledger.credit_locks", "ledger.operations", "tollwire.messages",
            "tollwire.message_states", "tollwire.message_texts", "tollwire.outbox", "tollwire.attempts",
            "tollwire.carrier_references", "tollwire.receipts", "tollwire.callbacks", "tollwire.dead_letters",
            "tollwire.idempotency_keys", "tollwire.hold_watch", "tollwire.callback_endpoints",
            "tollwire.untold_dead_letters",
            "tollwire.clients", "tollwire.carriers", "ledger.accounts where kind = 'client'",
        )
    )
)  # fmt: skip


async def take_over(connection: asyncpg.Connection) -> None:
    """Give a database the simulation's clock, and one partition a table for all times."""
    for name in ("own_clock", "snapshot", "one_partition"):
        await connection.execute((SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8"))


class SqlServer:
    """See ``wire.Server``. The pool has one connection: its session knows the time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._accounts: list[int] = []
        self._carriers: dict[int, Carrier] = {}
        self._messages: list[UUID] = []
        self._receipts: list[UUID] = []
        self._now_us: int | None = None

    async def open(self, clients: list[Client], carriers: list[Carrier]) -> None:
        await self._pool.execute("select set_config('sim.start', $1, false)", START.isoformat())
        await self.at(0)
        await self._pool.execute(FORGET)
        self._carriers = {carrier.id: carrier for carrier in carriers}
        await self._pool.executemany(
            "insert into tollwire.carriers (id, name, kind, settings, idempotent_submit, no_receipt_policy,"
            " no_receipt_seconds, receipt_wait_seconds)"
            " values ($1::smallint, 'c' || $1::smallint, 'http', '{}', $2, $3, $4, $5)",
            [
                (c.id, c.recognises, c.no_receipt_policy, NO_RECEIPT_SECONDS, RECEIPT_WAIT_SECONDS)
                for c in carriers
            ],
        )
        for client in clients:
            await self._open_client(client)

    async def _open_client(self, client: Client) -> None:
        self._accounts.append(client.account)
        await self._pool.execute(
            "insert into ledger.accounts (id, kind, currency, dispatch_interval_us)"
            " values ($1, 'client', 'EUR', $2)",
            client.account,
            client.interval_us,
        )
        await self._pool.execute(
            "insert into tollwire.clients (id, name) values ($1, $2)",
            client.account,
            f"client-{client.account}",
        )
        if client.events:
            await self._pool.execute(
                "insert into tollwire.callback_endpoints (client_id, url, events)"
                " values ($1, 'https://client.example/', $2)",
                client.account,
                list(client.events),
            )
        await self.credit(client.account, "top_up", client.credit, "opening")

    async def at(self, now_us: int) -> None:
        if now_us != self._now_us:
            await self._pool.fetchval(TELL_TIME, moment(now_us).isoformat())
            self._now_us = now_us

    async def accept(self, wants: list[Want], incarnation: int) -> list[Answer]:
        self._messages += [want.message for want in wants if want.message not in self._messages]
        answers = await api_store.accept_batch(
            self._pool, list(map(_item, wants)), incarnation, LEASE_SECONDS
        )
        return [
            (a.outcome, a.message_id, a.problem, a.available_micros, a.state, a.dispatch_now) for a in answers
        ]

    async def cancel(self, wants: list[tuple[int, UUID]]) -> list[Answer]:
        return [tuple(answer) for answer in await api_store.cancel_batch(self._pool, wants)]

    async def credit(self, account: int, kind: str, amount: int, reference: str) -> Answer:
        sql = "select o_replayed from ledger.post_credit_v1($1, $2, $3, $4, 'simulation', null)"
        try:
            is_again = await self._pool.fetchval(sql, account, kind, amount, reference)
        except asyncpg.UniqueViolationError:
            return ("conflict",)
        return ("replayed" if is_again else "posted",)

    async def suspend(self, account: int, is_suspended: bool) -> None:
        await self._pool.execute(
            "update tollwire.clients set suspended = $2 where id = $1", account, is_suspended
        )

    async def claim(self, work: list[tuple[UUID, int]], carrier: int, claim: UUID) -> list[Answer]:
        pairs = [(str(message), number) for message, number in work]
        claims = await worker_store.claim_batch(self._pool, pairs, carrier, CLAIM_SECONDS, claim)
        return [
            (None, c.attempt_no, sorted(c.parts or [])) if c.refusal is None else (c.refusal, None, None)
            for c in claims
        ]

    async def record(self, lines: list[Line], carrier: int) -> list[Answer]:
        recorded = await worker_store.record_batch(
            self._pool, [_outcome(line) for line in lines], carrier,
            may_ask_again=self._carriers[carrier].recognises, tries_max=TRIES_MAX,
            receipt_wait_seconds=RECEIPT_WAIT_SECONDS,
        )  # fmt: skip
        return [(r.moved, r.state, sorted(r.receipt_ids) if r.receipt_ids else None) for r in recorded]

    async def receive(self, words: list[Word]) -> None:
        self._receipts += [word.id for word in words if word.id not in self._receipts]
        await dlr_store.receive_batch(self._pool, [_receipt(word) for word in words])

    async def settle(self, receipts: list[UUID]) -> list[Answer]:
        settled = await dlr_store.settle_batch(self._pool, receipts, LEASE_SECONDS)
        return [(s.outcome, s.message_id, s.state, s.callback_id) for s in settled]

    async def lease_receipts(self) -> list[UUID]:
        return sorted(await dlr_store.lease_receipts(self._pool, DUE_MAX))

    async def load_callbacks(self, callbacks: list[UUID]) -> list[Answer]:
        return [
            (w.skip, w.event_type, w.sequence, w.attempts, w.message_id, w.state, w.is_charged)
            for w in await dlr_store.load_callbacks(self._pool, callbacks)
        ]

    async def lease_callbacks(self) -> list[UUID]:
        leased = await dlr_store.lease_callbacks(self._pool, CALLBACKS_MAX, CALLBACKS_MAX, LEASE_SECONDS)
        return sorted(callback_id for callback_id, _ in leased)

    async def record_callbacks(self, notes: list[tuple[UUID, int, str | None]]) -> None:
        records = [
            CallbackRecord(id_, attempt, outcome, 200, None, 1, None, None, 30.0)
            for id_, attempt, outcome in notes
        ]
        await dlr_store.record_callbacks(self._pool, records)

    async def look_due(self) -> dict[str, list[UUID]]:
        due = await clockwork_store.look_due(self._pool, DUE_MAX)
        return {work: sorted(ids) for work, ids in due.items()}

    async def tidy(self, wait: list[UUID], forget: list[UUID]) -> None:
        await clockwork_store.tidy_outbox(self._pool, wait, forget)

    async def start(self, messages: list[UUID]) -> list[Answer]:
        return sorted(map(tuple, await clockwork_store.start_scheduled(self._pool, messages)))

    async def dispatch(self, messages: list[UUID], oldest_us: int | None, incarnation: int) -> list[Answer]:
        oldest = moment(oldest_us) if oldest_us is not None else None
        leased = await clockwork_store.dispatch_due(self._pool, messages, [oldest] * 3, incarnation)
        return sorted((d.message_id, d.dispatch_no, d.carrier_id) for d in leased)

    async def return_leases(self, work: list[tuple[UUID, int]]) -> None:
        await clockwork_store.return_leases(self._pool, [Dispatch(m, n, "normal", 0) for m, n in work])

    async def put_off(self, work: list[tuple[UUID, int]], seconds: float) -> None:
        await worker_store.put_off_work(self._pool, [(str(m), n) for m, n in work], [seconds] * len(work))

    async def recover(self, messages: list[UUID]) -> list[Answer]:
        return sorted(map(tuple, await clockwork_store.recover_claims(self._pool, messages, TRIES_MAX)))

    async def expire_due(self, messages: list[UUID]) -> list[Answer]:
        return sorted(map(tuple, await clockwork_store.expire_due(self._pool, messages)))

    async def held_long(self) -> list[UUID]:
        _, _, held = await clockwork_store.walk_holds(self._pool, UUID(int=0), DUE_MAX)
        watched = await clockwork_store.watched_holds(self._pool, DUE_MAX)
        return sorted({*held, *watched})

    async def expire_holds(self, messages: list[UUID]) -> list[Answer]:
        return sorted(map(tuple, await clockwork_store.expire_holds(self._pool, messages)))

    async def snapshot(self) -> Rows:
        # The next call is mostly a little later: telling the time along saves a round trip.
        self._now_us = (self._now_us or 0) + CALL_US
        row = await self._pool.fetchrow(
            SNAPSHOT_AND_TIME,
            self._accounts,
            self._messages,
            self._receipts,
            moment(self._now_us).isoformat(),
        )
        tables: Mapping[str, Mapping[str, Sequence[Any]] | None] = row[0] if row else {}
        return {name: {key: tuple(row) for key, row in (rows or {}).items()} for name, rows in tables.items()}


def _item(want: Want) -> AcceptItem:
    return accept_item(
        want.account, message_id=want.message, key=want.key, fingerprint=want.fingerprint,
        amount_micros=want.amount, max_price_micros=want.max_price, msisdn=want.msisdn,
        delivery=want.delivery, charge=want.charge, valid_seconds=want.valid_seconds,
        send_at=moment(want.send_at) if want.send_at is not None else None, carrier_id=want.carrier,
        parts=want.parts, segments=want.parts, is_test=want.is_test,
    )  # fmt: skip


def _outcome(line: Line) -> Outcome:
    return Outcome(
        message_id=line.message, attempt_no=line.attempt, part_no=line.part, outcome=line.outcome,
        reference=line.reference, error=line.error, detail=None, retry_seconds=line.retry_seconds,
        next_carrier_id=line.next_carrier,
    )  # fmt: skip


def _receipt(word: Word) -> ReceivedReceipt:
    return ReceivedReceipt(
        receipt_id=word.id, carrier_id=word.carrier, reference=word.reference, state=word.state, done_at=None,
        msisdn=word.msisdn, error_code=None, part_no=word.part, echo_message_id=word.echo_message,
        echo_attempt_no=word.echo_attempt,
    )  # fmt: skip
