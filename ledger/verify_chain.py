"""An account's passes put together: each goes on where the one before it ended, or at its checkpoint."""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ledger.chain import GENESIS, KIND_CODES
from ledger.findings import Finding
from ledger.verify_journal import Pass

WORDS: Final = {
    "version_gap": "the version does not follow the one before it",
    "running_balance": "the balance after the entry is not the balance before it and the amount",
    "chain_broken": "the hash does not follow from the entry and the hash before it",
    "time_backwards": "the entry is older than the one before it",
}
# What is hashed of an entry, without its texts: account, version, time, kind, message, debit, credit, amount,
# posted and held after it.
_HASHED: Final = struct.Struct(">qqqi16sqqqqq")
_LEFT: Final = struct.Struct(">32sqqqq")
_HASH_BYTES: Final = 32
_LINK: Final = b"\x01"
# Of an amount, what it does to posted and to held; an adjustment's side decides.
_SIGNS: Final = {
    KIND_CODES["top_up"]: (1, 0),
    KIND_CODES["hold"]: (0, 1),
    KIND_CODES["capture"]: (-1, -1),
    KIND_CODES["release"]: (0, -1),
    KIND_CODES["late_capture"]: (-1, 0),
}


class State(NamedTuple):
    """An account as an entry left it; ``at_us`` None where nobody knows."""

    head: bytes
    version: int
    at_us: int | None
    posted_micros: int
    held_micros: int


# Before its first entry.
NOTHING: Final = State(GENESIS, 0, None, 0, 0)


@dataclass(slots=True)
class Fold:
    """What all entries of an account add up to since its base; micros, and marks."""

    account_id: int
    base: State
    last: State
    client_net: int = 0
    holds_net: int = 0
    others_net: int = 0
    mark: int = 0
    operation_mark: int = 0
    is_misshapen: bool = False

    def add(self, some: Pass) -> None:
        """Take one more pass."""
        _, client_net, holds_net, others_net, mark, operation_mark, is_misshapen, _, last, _ = some
        self.client_net += client_net
        self.holds_net += holds_net
        self.others_net += others_net
        self.mark += mark
        self.operation_mark += operation_mark
        self.is_misshapen |= is_misshapen
        self.last = State(*_LEFT.unpack(last))


@dataclass(slots=True)
class Chains:
    """Every account's passes so far, in the order of their days. ``bases``: what is believed before them."""

    bases: Mapping[int, State]
    folds: dict[int, Fold] = field(default_factory=dict)

    def join(self, passes: Iterable[Pass]) -> list[Finding]:
        """Put the next pass to those before; return what does not follow in it, or from them."""
        findings: list[Finding] = []
        for some in passes:
            fold = self.folds.get(some.account_id)
            if fold is None:
                base = self.bases.get(some.account_id, NOTHING)
                fold = self.folds[some.account_id] = Fold(some.account_id, base, base)
            version, faults = faults_of(fold.last, some.first)
            findings += named(some.account_id, version, faults)
            for fault in some.faults.split(",") if some.faults else ():
                number, *checks = fault.split()
                findings += named(some.account_id, int(number), checks)
            fold.add(some)
        return findings


def named(account_id: int, version: int, checks: Iterable[str]) -> list[Finding]:
    """The findings of an entry."""
    return [Finding(check, f"entry {version}: {WORDS[check]}", account_id) for check in checks]


def faults_of(before: State, first: bytes) -> tuple[int, list[str]]:
    """Return an entry's version and what of it does not follow from the state before it.

    Args:
        first: the entry's hash and what is hashed of it but the hash before it.
    """
    hash_, hashed = first[:_HASH_BYTES], first[_HASH_BYTES:]
    account, version, at_us, kind, _, _, credit, amount, posted, held = _HASHED.unpack_from(hashed)
    of_posted, of_held = _SIGNS.get(kind, (1 if credit == account else -1, 0))
    faults = []
    if version != before.version + 1:
        faults.append("version_gap")
    if (posted, held) != (before.posted_micros + of_posted * amount, before.held_micros + of_held * amount):
        faults.append("running_balance")
    if before.at_us is not None and at_us < before.at_us:
        faults.append("time_backwards")
    if hashlib.sha256(_LINK + before.head + hashed).digest() != hash_:
        faults.append("chain_broken")
    return version, faults
