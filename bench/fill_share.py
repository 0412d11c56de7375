"""One process's share of a fill: some of the accounts through all the days.

Messages come in the order of time over all accounts of the share, as they would have come: an account's
entries lie scattered over a day's pages, and a verification finds them as it finds real ones.
"""

import random
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from bench.fill_rows import EPOCH_DAY, EPOCH_US, End, Rows, Table, Tables
from ledger.chain import GENESIS, KIND_CODES, NO_MESSAGE, link, text_bytes
from shared.runtime.keyring import Keyring

DAY_US: Final = 86_400_000_000
# What is accepted on a day ends on it, so that a chunk of rows is of one day.
LAST_US: Final = DAY_US - 60_000_000
# From the acceptance to the submit, to the receipt, and from there to the callback's answer.
SUBMIT_US: Final = 40_000
RECEIPT_US: Final = 3_000_000
CALLBACK_US: Final = 30_000
VALID_DAYS: Final = 2
DELIVERED_SHARE: Final = 0.94
TOP_UP_MICROS: Final = 1_000_000_000
# Messages between two writes: some 20 MB of rows.
CHUNK_MESSAGES: Final = 20_000
# A few clients send most: the n-th of N has a share that falls with the power 2/3 of n.
SKEW: Final = 3
PRICES: Final = ((b"+49151", b"DE", 75_000), (b"+33612", b"FR", 45_000), (b"+44791", b"GB", 37_900))
NUMBERS: Final = 10_000_000
TEXT: Final = b"Your parcel is on its way and comes tomorrow between 10 and 12. Reply STOP to end this."
# The head before the key id's own bytes, the nonce, the tag.
SEALED_EXTRA_BYTES: Final = 2 + 12 + 16
KEPT_TEXT_DAYS: Final = 7
KEPT_REFERENCE_DAYS: Final = 14
NO_TEXT: Final = text_bytes(None)
_ID: Final = struct.Struct(">QQ")
_VERSION: Final = 0x7000
_VARIANT: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process makes: ``messages`` on each of ``days``, and ``backlog`` between two times today.

    Attributes:
        clients: account ids, each with its callback endpoint, if it has one.
        system: ids of the system accounts by kind.
        keyring: its active key's id and all keys; None makes no texts.
    """

    currency: str
    carrier_id: int
    clients: dict[int, int | None]
    system: dict[str, int]
    days: Sequence[date]
    messages: Sequence[int]
    today: date
    backlog: int
    backlog_us: tuple[int, int]
    keyring: tuple[str, dict[str, bytes]] | None
    seed: int


@dataclass(slots=True)
class Account:
    """A client's account as its last entry left it."""

    id: int
    endpoint: int | None
    posted: int = 0
    held: int = 0
    open_holds: int = 0
    version: int = 0
    top_ups: int = 0
    head: bytes = GENESIS
    at: int = 0


class Flight(NamedTuple):
    """A message between its acceptance and its end."""

    account: Account
    id: bytes
    msisdn: bytes
    price: int
    at: int
    hold_version: int


class Share:
    """Makes the rows of a plan. Times are µs since the epoch until they stand in a row."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tables = Tables()
        self._keyring = None if plan.keyring is None else Keyring(*plan.keyring)
        sealed_bytes = 0 if plan.keyring is None else len(TEXT) + len(plan.keyring[0]) + SEALED_EXTRA_BYTES
        self._rows = Rows(self._tables, plan.currency, plan.carrier_id, sealed_bytes)
        self.accounts = [Account(*pair) for pair in plan.clients.items()]
        self._random = random.Random(plan.seed)
        # Never the same ids, so that a database may be filled again with the same seed.
        self._ids = random.Random()
        self._day = 0
        self._has_texts = self._has_references = False

    def chunks(self) -> Iterator[tuple[date, int, Sequence[Table]]]:
        """Yield a day, how many messages, and their rows, which are to be taken before the next."""
        for day, messages in zip(self._plan.days, self._plan.messages, strict=True):
            self._begin(day)
            flying: deque[Flight] = deque()
            start_us = (self._day + EPOCH_DAY - date(1970, 1, 1).toordinal()) * DAY_US
            for chunk in _chunks(messages):
                for number in chunk:
                    at = start_us + LAST_US * number // messages
                    while flying and flying[0].at + RECEIPT_US <= at:
                        self._end(flying.popleft())
                    flying.append(self._accept(at))
                if chunk.stop == messages:
                    self._land(flying)
                yield day, len(chunk), list(self._tables.filled())
        self._begin(self._plan.today)
        first_us, last_us = self._plan.backlog_us
        for chunk in _chunks(self._plan.backlog):
            for number in chunk:
                at = first_us + (last_us - first_us) * number // self._plan.backlog
                self._wait(self._accept(at))
            yield self._plan.today, len(chunk), list(self._tables.filled())

    def _begin(self, day: date) -> None:
        self._day = day.toordinal() - EPOCH_DAY
        age = (self._plan.today - day).days
        self._has_texts = self._keyring is not None and age < VALID_DAYS + KEPT_TEXT_DAYS
        self._has_references = age < KEPT_REFERENCE_DAYS

    def _land(self, flying: deque[Flight]) -> None:
        while flying:
            self._end(flying.popleft())

    def _accept(self, at: int) -> Flight:
        """Place a hold for somebody's message; the message's own rows follow at its end."""
        draw = self._random.random
        account = self.accounts[int(len(self.accounts) * draw() ** SKEW)]
        number = int(NUMBERS * draw())
        prefix, region, price = PRICES[number % len(PRICES)]
        if account.posted - account.held < price:
            self._top_up(account, at)
        id_ = self._id(at)
        account.held += price
        account.open_holds += 1
        holds = self._plan.system["holds"]
        self._enter(account, at, "hold", NO_TEXT * 2, id_, account.id, holds, price)
        version, head, msisdn = account.version, account.head, prefix + b"%07d" % number
        pg_at = at - EPOCH_US
        self._rows.hold(account.id, version, self._day, pg_at, id_, account.id, holds, price,
                        account.posted, account.held, head)  # fmt: skip
        valid_us = pg_at + VALID_DAYS * DAY_US
        self._rows.message(id_, account.id, msisdn, region, price, valid_us, pg_at)
        if self._has_texts and self._keyring is not None:
            self._rows.text(id_, self._keyring.seal(TEXT, id_), self._day + VALID_DAYS + KEPT_TEXT_DAYS)
        return Flight(account, id_, msisdn, price, at, version)

    def _top_up(self, account: Account, at: int) -> None:
        account.posted += TOP_UP_MICROS
        account.top_ups += 1
        reference = b"fill-%06d" % account.top_ups
        sides = (self._plan.system["funding"], account.id)
        texts = text_bytes(reference.decode()) + NO_TEXT
        self._enter(account, at, "top_up", texts, NO_MESSAGE, *sides, TOP_UP_MICROS)
        after = (account.posted, account.held)
        self._rows.top_up(account.id, account.version, self._day, at - EPOCH_US, *sides, TOP_UP_MICROS,
                          *after, reference, account.head)  # fmt: skip
        self._rows.operation(account.id, reference, TOP_UP_MICROS, account.version, *after, at - EPOCH_US)

    def _end(self, flight: Flight) -> None:
        """Submit, deliver or not, settle and call back."""
        account, id_, msisdn, price, accepted_at, hold_version = flight
        is_delivered = self._random.random() < DELIVERED_SHARE
        end: End = self._rows.delivered if is_delivered else self._rows.undelivered
        at = accepted_at + RECEIPT_US
        account.held -= price
        account.open_holds -= 1
        system = self._plan.system
        sides = (system["holds"], account.id)
        if end.is_capture:
            account.posted -= price
            sides = (system["holds"], system["revenue"])
        self._enter(account, at, "capture" if end.is_capture else "release", end.texts, id_, *sides, price)
        pg_accepted, pg_at = accepted_at - EPOCH_US, at - EPOCH_US
        pg_submitted = pg_accepted + SUBMIT_US
        reference = b"f-" + id_[8:].hex().encode()
        end.entry(account.id, account.version, self._day, pg_at, id_, *sides, price, account.posted,
                  account.held, account.head)  # fmt: skip
        end.lock(id_, account.id, price, hold_version, pg_accepted, pg_at)
        end.state(id_, id_, pg_submitted, pg_at, pg_at)
        end.attempt(id_, pg_accepted, pg_submitted, reference, pg_at)
        if self._has_references:
            self._rows.reference(reference, pg_submitted, id_)
        end.receipt(self._id(at), reference, pg_at, msisdn, pg_at, pg_at, pg_at, id_)
        if account.endpoint is not None:
            end.callback(self._id(at), id_, account.id, account.endpoint, pg_at, pg_at, pg_at + CALLBACK_US)

    def _wait(self, flight: Flight) -> None:
        account, id_, _, price, at, hold_version = flight
        pg_at, waiting = at - EPOCH_US, self._rows.waiting
        waiting.lock(id_, account.id, price, hold_version, pg_at)
        waiting.state(id_, pg_at)
        waiting.outbox(id_, pg_at, pg_at)

    def _enter(
        self, account: Account, at: int, kind: str, texts: bytes, message: bytes, debit: int, credit: int,
        amount: int,
    ) -> None:  # fmt: skip
        account.version += 1
        account.at = at
        account.head = link(
            account.head, texts, account.id, account.version, at, KIND_CODES[kind], message, debit, credit,
            amount, account.posted, account.held,
        )  # fmt: skip

    def _id(self, at: int) -> bytes:
        """A UUIDv7 of this time; within a millisecond they go on rising."""
        milliseconds, rest = divmod(at, 1_000)
        return _ID.pack(milliseconds << 16 | _VERSION | rest, _VARIANT | self._ids.getrandbits(62))


def _chunks(messages: int) -> Iterator[range]:
    for first in range(0, messages, CHUNK_MESSAGES):
        yield range(first, min(first + CHUNK_MESSAGES, messages))
