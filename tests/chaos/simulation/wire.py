"""What simulated processes say to a server, real or oracle, and hear from it. Times are µs since START."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

START: Final = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)
START_MS: Final = int(START.timestamp() * 1000)
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
# How long a call takes: no two are at the same moment.
CALL_US: Final = 1_000
LEASE_SECONDS: Final = 60
CLAIM_SECONDS: Final = 60
TRIES_MAX: Final = 4
RECEIPT_WAIT_SECONDS: Final = 3_600
NO_RECEIPT_SECONDS: Final = 7_200
KEEP_HOURS: Final = 96
SETTLE_LEASE_SECONDS: Final = 30

Rows = dict[str, dict[str, tuple[Any, ...]]]


def moment(at_us: int) -> datetime:
    """A time of the simulation as the database knows it."""
    return START + timedelta(microseconds=at_us)


class Want(NamedTuple):
    """One position of an accept."""

    account: int
    message: UUID
    carrier: int
    key: str | None = None
    fingerprint: bytes = b"1" * 32
    amount: int = 10
    max_price: int | None = None
    charge: str = "delivered"
    delivery: str = "at_most_once"
    parts: int = 1
    msisdn: str = "+4915112345678"
    send_at: int | None = None
    valid_seconds: int = 600

    @property
    def is_test(self) -> bool:
        """What a test key sends is free; here nothing else is."""
        return self.amount == 0


class Line(NamedTuple):
    """What became of one part of an attempt."""

    message: UUID
    attempt: int
    part: int
    outcome: str
    reference: str | None
    error: str | None
    retry_seconds: float
    next_carrier: int | None


class Word(NamedTuple):
    """A receipt as it comes in."""

    id: UUID
    carrier: int
    reference: str
    state: str
    msisdn: str | None
    part: int | None
    echo_message: UUID | None
    echo_attempt: int | None


class Carrier(NamedTuple):
    """A carrier's row."""

    id: int
    recognises: bool
    no_receipt_policy: str


class Client(NamedTuple):
    """A client's account and what it asks for."""

    account: int
    credit: int
    interval_us: int
    events: tuple[str, ...]


Answer = tuple[Any, ...]


class Server(Protocol):
    """The server functions; each call is one transaction at one moment."""

    async def open(self, clients: list[Client], carriers: list[Carrier]) -> None: ...
    async def at(self, now_us: int) -> None: ...
    async def accept(self, wants: list[Want], incarnation: int) -> list[Answer]: ...
    async def cancel(self, wants: list[tuple[int, UUID]]) -> list[Answer]: ...
    async def credit(self, account: int, kind: str, amount: int, reference: str) -> Answer: ...
    async def suspend(self, account: int, is_suspended: bool) -> None: ...
    async def claim(self, work: list[tuple[UUID, int]], carrier: int, claim: UUID) -> list[Answer]: ...
    async def record(self, lines: list[Line], carrier: int) -> list[Answer]: ...
    async def receive(self, words: list[Word]) -> None: ...
    async def settle(self, receipts: list[UUID]) -> list[Answer]: ...
    async def lease_receipts(self) -> list[UUID]: ...
    async def load_callbacks(self, callbacks: list[UUID]) -> list[Answer]: ...
    async def lease_callbacks(self) -> list[UUID]: ...
    async def record_callbacks(self, notes: list[tuple[UUID, int, str | None]]) -> None: ...
    async def look_due(self) -> dict[str, list[UUID]]: ...
    async def tidy(self, wait: list[UUID], forget: list[UUID]) -> None: ...
    async def start(self, messages: list[UUID]) -> list[Answer]: ...
    async def dispatch(
        self, messages: list[UUID], oldest_us: int | None, incarnation: int
    ) -> list[Answer]: ...
    async def return_leases(self, work: list[tuple[UUID, int]]) -> None: ...
    async def put_off(self, work: list[tuple[UUID, int]], seconds: float) -> None: ...
    async def recover(self, messages: list[UUID]) -> list[Answer]: ...
    async def expire_due(self, messages: list[UUID]) -> list[Answer]: ...
    async def held_long(self) -> list[UUID]: ...
    async def expire_holds(self, messages: list[UUID]) -> list[Answer]: ...
    async def snapshot(self) -> Rows: ...
