"""The database and the oracle side by side: the same calls, and the answers have to be equal."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from tests.chaos.simulation.wire import Answer, Carrier, Client, Line, Rows, Server, Want, Word


class DisagreementError(Exception):
    """The database and the oracle differ."""


def differences(sql: Rows, oracle: Rows) -> list[str]:
    """The rows that differ, each with what either says."""
    found = []
    for table in sql.keys() | oracle.keys():
        left, right = sql.get(table, {}), oracle.get(table, {})
        found += [
            f"{table} {key}: the database says {left.get(key)}, the oracle {right.get(key)}"
            for key in sorted(left.keys() | right.keys())
            if left.get(key) != right.get(key)
        ]
    return sorted(found)


class BothServers:
    """See ``wire.Server``."""

    def __init__(self, sql: Server, oracle: Server) -> None:
        self._sql = sql
        self._oracle = oracle

    async def _each(self, name: str, call: Callable[[Server], Awaitable[Any]]) -> Any:
        sql, oracle = await call(self._sql), await call(self._oracle)
        if sql != oracle:
            raise DisagreementError(f"{name}: the database answers {sql}, the oracle {oracle}")
        return sql

    async def open(self, clients: list[Client], carriers: list[Carrier]) -> None:
        await self._each("open", lambda s: s.open(clients, carriers))

    async def at(self, now_us: int) -> None:
        await self._each("at", lambda s: s.at(now_us))

    async def accept(self, wants: list[Want], incarnation: int) -> list[Answer]:
        return await self._each("accept", lambda s: s.accept(wants, incarnation))  # type: ignore[no-any-return]

    async def cancel(self, wants: list[tuple[int, UUID]]) -> list[Answer]:
        return await self._each("cancel", lambda s: s.cancel(wants))  # type: ignore[no-any-return]

    async def credit(self, account: int, kind: str, amount: int, reference: str) -> Answer:
        return await self._each("credit", lambda s: s.credit(account, kind, amount, reference))  # type: ignore[no-any-return]

    async def suspend(self, account: int, is_suspended: bool) -> None:
        await self._each("suspend", lambda s: s.suspend(account, is_suspended))

    async def claim(self, work: list[tuple[UUID, int]], carrier: int, claim: UUID) -> list[Answer]:
        return await self._each("claim", lambda s: s.claim(work, carrier, claim))  # type: ignore[no-any-return]

    async def record(self, lines: list[Line], carrier: int) -> list[Answer]:
        return await self._each("record", lambda s: s.record(lines, carrier))  # type: ignore[no-any-return]

    async def receive(self, words: list[Word]) -> None:
        await self._each("receive", lambda s: s.receive(words))

    async def settle(self, receipts: list[UUID]) -> list[Answer]:
        return await self._each("settle", lambda s: s.settle(receipts))  # type: ignore[no-any-return]

    async def lease_receipts(self) -> list[UUID]:
        return await self._each("lease_receipts", lambda s: s.lease_receipts())  # type: ignore[no-any-return]

    async def load_callbacks(self, callbacks: list[UUID]) -> list[Answer]:
        return await self._each("load_callbacks", lambda s: s.load_callbacks(callbacks))  # type: ignore[no-any-return]

    async def lease_callbacks(self) -> list[UUID]:
        return await self._each("lease_callbacks", lambda s: s.lease_callbacks())  # type: ignore[no-any-return]

    async def record_callbacks(self, notes: list[tuple[UUID, int, str | None]]) -> None:
        await self._each("record_callbacks", lambda s: s.record_callbacks(notes))

    async def look_due(self) -> dict[str, list[UUID]]:
        return await self._each("look_due", lambda s: s.look_due())  # type: ignore[no-any-return]

    async def tidy(self, wait: list[UUID], forget: list[UUID]) -> None:
        await self._each("tidy", lambda s: s.tidy(wait, forget))

    async def start(self, messages: list[UUID]) -> list[Answer]:
        return await self._each("start", lambda s: s.start(messages))  # type: ignore[no-any-return]

    async def dispatch(self, messages: list[UUID], oldest_us: int | None, incarnation: int) -> list[Answer]:
        return await self._each("dispatch", lambda s: s.dispatch(messages, oldest_us, incarnation))  # type: ignore[no-any-return]

    async def return_leases(self, work: list[tuple[UUID, int]]) -> None:
        await self._each("return_leases", lambda s: s.return_leases(work))

    async def put_off(self, work: list[tuple[UUID, int]], seconds: float) -> None:
        await self._each("put_off", lambda s: s.put_off(work, seconds))

    async def recover(self, messages: list[UUID]) -> list[Answer]:
        return await self._each("recover", lambda s: s.recover(messages))  # type: ignore[no-any-return]

    async def expire_due(self, messages: list[UUID]) -> list[Answer]:
        return await self._each("expire_due", lambda s: s.expire_due(messages))  # type: ignore[no-any-return]

    async def held_long(self) -> list[UUID]:
        return await self._each("held_long", lambda s: s.held_long())  # type: ignore[no-any-return]

    async def expire_holds(self, messages: list[UUID]) -> list[Answer]:
        return await self._each("expire_holds", lambda s: s.expire_holds(messages))  # type: ignore[no-any-return]

    async def snapshot(self) -> Rows:
        sql, oracle = await self._sql.snapshot(), await self._oracle.snapshot()
        found = differences(sql, oracle)
        if found:
            raise DisagreementError("; ".join(found))
        return sql
