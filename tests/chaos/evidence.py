"""What the three logs say together about each message. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from simulator.journal import Acked
from simulator.memory import TAKEN, LogLine
from tests.chaos.instance import CarrierKind
from tests.chaos.logs import Cancelled, ClientLine, Doubt, End, Met, Offer, Told, Word

FINAL_TYPES: Final = frozenset(
    f"message.{word}" for word in ("delivered", "undelivered", "expired", "failed", "cancelled")
)
FINAL_RECEIPTS: Final = frozenset({"delivered", "undelivered", "expired", "rejected"})
CHARGE_DELIVERED: Final = "delivered"


@dataclass
class Asked:
    """A key: what was asked under it, and every word about it.

    ``met``: its requests that met another of it in flight; ``last_word_at``: when its last word came.
    """

    offer: Offer
    ids: dict[str, float] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    met: list[Met] = field(default_factory=list)
    last_word_at: float = 0.0


@dataclass
class Message:
    """An accepted message, as the client, its carrier and its endpoint saw it.

    Attributes:
        charge: the plan of its client.
        is_told: whether its client's endpoint takes callbacks at all.
        taken: the submits that the carrier took, oldest first.
        told: callbacks that verified and were answered 2xx, by arrival.
    """

    id: str
    asked: Asked
    accepted_at: float
    carrier: CarrierKind
    charge: str = CHARGE_DELIVERED
    is_told: bool = True
    cancelled: bool = False
    taken: list[LogLine] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def finals(self) -> list[Told]:
        """The callbacks that told its end."""
        return [told for told in self.told if told.type in FINAL_TYPES]

    @property
    def receipt_words(self) -> list[set[str]]:
        """For each taken submit, the final states that its own receipts say."""
        return [
            {
                due.receipt.state
                for due in line.receipts
                if due.receipt.reference == line.reference and due.receipt.state in FINAL_RECEIPTS
            }
            for line in self.taken
        ]


@dataclass
class Evidence:
    """Everything of a run but Tollwire's own word."""

    keys: dict[str, Asked]
    messages: dict[str, Message]
    strangers_at_carriers: set[str]
    strangers_told: set[str]
    ids_by_text: dict[str, set[str]]
    bad_callbacks: list[Told]
    open_keys: int
    doubts: list[Doubt]
    unacked_receipts: int


@dataclass(frozen=True, slots=True)
class CarrierLog:
    """A carrier and its journal."""

    kind: CarrierKind
    entries: Iterable[LogLine | Acked]


def gather(
    client: Sequence[ClientLine],
    carriers: Iterable[CarrierLog],
    told: Iterable[Told],
    charges: Mapping[str, str],
    hostile: Collection[str] = (),
) -> Evidence:
    """Put the logs together.

    Args:
        client: the client's log.
        carriers: each carrier's journal.
        told: the endpoint's log.
        charges: each account's plan, ``delivered`` or ``submitted``.
        hostile: accounts whose endpoint takes no callbacks.
    """
    keys = _keys(client)
    carriers = list(carriers)
    messages = _messages(keys, {log.kind.prefix: log.kind for log in carriers}, charges)
    for line in client:
        if isinstance(line, Cancelled) and line.id in messages:
            messages[line.id].cancelled = True
    for message in messages.values():
        message.is_told = message.asked.offer.account not in hostile
    evidence = Evidence(
        keys=keys,
        messages=messages,
        strangers_at_carriers=set(),
        strangers_told=set(),
        ids_by_text=defaultdict(set),
        bad_callbacks=[],
        open_keys=sum(line.open for line in client if isinstance(line, End)),
        doubts=[line for line in client if isinstance(line, Doubt)],
        unacked_receipts=0,
    )
    for log in carriers:
        _add_carrier(evidence, log)
    for callback in told:
        _add_told(evidence, callback)
    return evidence


def _keys(client: Sequence[ClientLine]) -> dict[str, Asked]:
    keys = {line.key: Asked(line) for line in client if isinstance(line, Offer)}
    # A batch is met as a whole: its first item stands for it.
    firsts = {key.rpartition(".")[0] or key: key for key in reversed(keys)}
    for line in client:
        if isinstance(line, Met):
            keys[firsts[line.key]].met.append(line)
        if not isinstance(line, Word):
            continue
        keys[line.key].last_word_at = max(keys[line.key].last_word_at, line.at)
        if line.id is not None:
            keys[line.key].ids.setdefault(line.id, line.at)
        elif line.code is not None:
            keys[line.key].codes.add(line.code)
    return keys


def _messages(
    keys: Mapping[str, Asked], kinds: Mapping[str, CarrierKind], charges: Mapping[str, str]
) -> dict[str, Message]:
    return {
        id_: Message(id_, asked, at, kinds[asked.offer.to[1:3]], charges[asked.offer.account])
        for asked in keys.values()
        for id_, at in asked.ids.items()
    }


def _add_carrier(evidence: Evidence, log: CarrierLog) -> None:
    owed: set[int] = set()
    for entry in log.entries:
        if isinstance(entry, Acked):
            owed.difference_update(entry.acked)
            continue
        evidence.ids_by_text[entry.sha256].add(entry.id)
        owed.update(due.n for due in entry.receipts)
        message = evidence.messages.get(entry.id)
        if message is None:
            evidence.strangers_at_carriers.add(entry.id)
        elif entry.outcome == TAKEN:
            message.taken.append(entry)
    evidence.unacked_receipts += len(owed)


def _add_told(evidence: Evidence, told: Told) -> None:
    if told.bad is not None:
        evidence.bad_callbacks.append(told)
    elif told.id not in evidence.messages:
        evidence.strangers_told.add(told.id)
    elif told.answered < 300:
        evidence.messages[told.id].told.append(told)
