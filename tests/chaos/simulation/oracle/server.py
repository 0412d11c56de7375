"""The oracle as a server: the same calls as the database, in plain Python."""

from uuid import UUID

from tests.chaos.simulation.oracle import accepting, clockwork, sending, settling
from tests.chaos.simulation.oracle.tables import Owner, Tables
from tests.chaos.simulation.wire import Answer, Carrier, Client, Line, Rows, Want, Word


class OracleServer:
    """See ``wire.Server``."""

    def __init__(self) -> None:
        self.tables = Tables()

    async def open(self, clients: list[Client], carriers: list[Carrier]) -> None:
        self.tables.carriers = {carrier.id: carrier for carrier in carriers}
        for client in clients:
            owner = Owner(id=client.account, interval_us=client.interval_us, events=client.events)
            self.tables.owners[client.account] = owner
            await self.credit(client.account, "top_up", client.credit, "opening")

    async def at(self, now_us: int) -> None:
        self.tables.now = now_us

    async def accept(self, wants: list[Want], incarnation: int) -> list[Answer]:
        return accepting.accept(self.tables, wants, incarnation)

    async def cancel(self, wants: list[tuple[int, UUID]]) -> list[Answer]:
        return accepting.cancel(self.tables, wants)

    async def credit(self, account: int, kind: str, amount: int, reference: str) -> Answer:
        return accepting.credit(self.tables, account, kind, amount, reference)

    async def suspend(self, account: int, is_suspended: bool) -> None:
        self.tables.owners[account].suspended = is_suspended

    async def claim(self, work: list[tuple[UUID, int]], carrier: int, claim: UUID) -> list[Answer]:
        return sending.claim(self.tables, work, carrier, claim)

    async def record(self, lines: list[Line], carrier: int) -> list[Answer]:
        return sending.record(self.tables, lines, carrier)

    async def receive(self, words: list[Word]) -> None:
        settling.receive(self.tables, words)

    async def settle(self, receipts: list[UUID]) -> list[Answer]:
        return settling.settle(self.tables, receipts)

    async def lease_receipts(self) -> list[UUID]:
        return settling.lease_receipts(self.tables)

    async def load_callbacks(self, callbacks: list[UUID]) -> list[Answer]:
        return settling.load_callbacks(self.tables, callbacks)

    async def lease_callbacks(self) -> list[UUID]:
        return settling.lease_callbacks(self.tables)

    async def record_callbacks(self, notes: list[tuple[UUID, int, str | None]]) -> None:
        settling.record_callbacks(self.tables, notes)

    async def look_due(self) -> dict[str, list[UUID]]:
        return clockwork.look_due(self.tables)

    async def tidy(self, wait: list[UUID], forget: list[UUID]) -> None:
        clockwork.tidy(self.tables, wait, forget)

    async def start(self, messages: list[UUID]) -> list[Answer]:
        return clockwork.start(self.tables, messages)

    async def dispatch(self, messages: list[UUID], oldest_us: int | None, incarnation: int) -> list[Answer]:
        return clockwork.dispatch(self.tables, messages, oldest_us, incarnation)

    async def return_leases(self, work: list[tuple[UUID, int]]) -> None:
        clockwork.return_leases(self.tables, work)

    async def put_off(self, work: list[tuple[UUID, int]], seconds: float) -> None:
        sending.put_off(self.tables, work, seconds)

    async def recover(self, messages: list[UUID]) -> list[Answer]:
        return sending.recover(self.tables, messages)

    async def expire_due(self, messages: list[UUID]) -> list[Answer]:
        return clockwork.expire_due(self.tables, messages)

    async def held_long(self) -> list[UUID]:
        return clockwork.held_long(self.tables)

    async def expire_holds(self, messages: list[UUID]) -> list[Answer]:
        return clockwork.expire_holds(self.tables, messages)

    async def snapshot(self) -> Rows:
        return self.tables.rows()
