"""The books of a send, proved from the journal: what was captured and released, and if it is right. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from api.read_schemas import Entry
from cli.journal import Snapshot
from cli.send_progress import Accepted
from shared.domain.money import Money, format_micros, parse_micros

DELIVERED: Final = "DELIVERED"
CAPTURES: Final = ("capture", "late_capture")
# A capture without a delivery is right when the client's plan or the carrier's policy says so.
BY_PLAN: Final = frozenset({"submitted", "delivered_in_part", "no_receipt"})
# The order in which states are shown: the good end, the bad ends, what is still on its way.
STATES: Final = (
    "DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED",
    "SENT", "UNKNOWN", "SENDING", "FAILED_TEMP", "QUEUED", "SCHEDULED",
)  # fmt: skip
FINAL_STATES: Final = frozenset(STATES[:5])
FAULTS_SHOWN_MAX: Final = 10


@dataclass(slots=True)
class StateLine:
    """One line of the summary: the messages in a state, and their money."""

    state: str
    count: int
    segments: int
    price: Money
    captured: Money
    released: Money


@dataclass(slots=True)
class Books:
    """The money of a send: what the journal says, and whether it is right.

    ``balance_moved`` is None when it cannot be compared: ``other_entries`` moved the account too, it never
    stood still, or some of the messages were sent before the account was first looked at.
    """

    lines: list[StateLine]
    captured: Money
    released: Money
    delivered: Money
    by_plan: Money
    late: Money
    other_entries: int
    has_earlier: bool
    balance_moved: Money | None
    faults: list[str] = field(default_factory=list)

    @property
    def open_count(self) -> int:
        """Messages that are not final."""
        return sum(line.count for line in self.lines if line.state not in FINAL_STATES)

    @property
    def is_right(self) -> bool:
        """True when every message is final and no fault was found."""
        return not self.faults and not self.open_count


@dataclass(slots=True)
class _Taken:
    """The entries of one message."""

    captured: list[tuple[int, str]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


def books(
    accepted: Sequence[Accepted],
    states: Mapping[str, str],
    entries: Iterable[Entry],
    before: Snapshot,
    after: Snapshot,
) -> Books:
    """Return the books of a send.

    Args:
        accepted: every message of the send with its price.
        states: the state of each by its id.
        entries: the journal, at least back to ``before`` and to every hold of the send.
        before: the account before the first message.
        after: the account after the last one.
    """
    zero = Money(0, before.currency)
    made = Books([], zero, zero, zero, zero, zero, 0, False, None)
    taken = _sorted_out(made, accepted, entries, before.version, after.version)
    lines = {state: StateLine(state, 0, 0, zero, zero, zero) for state in STATES}
    for message in accepted:
        _add(made, lines[states[message.id]], message, taken[message.id])
    made.lines = [line for line in lines.values() if line.count]
    _compare(made, before, after)
    return made


def _sorted_out(
    made: Books, accepted: Sequence[Accepted], entries: Iterable[Entry], first_version: int, last_version: int
) -> defaultdict[str, _Taken]:
    """Entries by message; counts those of others, and notes whether some of ours are from before."""
    ours = {message.id for message in accepted}
    taken: defaultdict[str, _Taken] = defaultdict(_Taken)
    for entry in entries:
        message_id = str(entry.message_id)
        is_ours = message_id in ours
        is_earlier = entry.version <= first_version
        made.has_earlier |= is_ours and is_earlier
        made.other_entries += not is_ours and not is_earlier
        if not is_ours or entry.version > last_version:
            continue
        micros = parse_micros(entry.amount)
        if entry.kind == "capture":
            taken[message_id].captured.append((micros, entry.reason or ""))
        elif entry.kind == "late_capture":
            taken[message_id].late.append(micros)
        elif entry.kind == "release":
            taken[message_id].released.append(micros)
    return taken


def _add(made: Books, line: StateLine, message: Accepted, taken: _Taken) -> None:
    """Add one message to its line and to the sums, and note what is wrong with it."""
    currency = made.captured.currency
    price = Money(message.amount_micros, currency)
    late = Money(sum(taken.late), currency)
    captured = Money(sum(micros for micros, _ in taken.captured), currency)
    released = Money(sum(taken.released), currency)
    line.count += 1
    line.segments += message.segments
    line.price += price
    line.captured += captured + late
    line.released += released
    made.captured += captured + late
    made.late += late
    made.released += released
    if line.state == DELIVERED:
        made.delivered += price
    elif any(reason in BY_PLAN for _, reason in taken.captured):
        made.by_plan += captured
    if line.state in FINAL_STATES:
        fault = _fault(message, line.state, taken)
        if fault:
            made.faults.append(fault)


def _fault(message: Accepted, state: str, taken: _Taken) -> str | None:
    """What is wrong with the entries of a final message: its hold ends once, at its price, the right way."""
    ends = [micros for micros, _ in taken.captured] + taken.released
    price = format_micros(message.amount_micros)
    if len(ends) != 1:
        return f"{message.id} ({state}) has {len(ends)} entries that end its hold; it must be one"
    if ends[0] != message.amount_micros or any(micros != message.amount_micros for micros in taken.late):
        return f"{message.id} ({state}) was booked with {format_micros(ends[0])}; its price is {price}"
    if state == DELIVERED and not taken.captured:
        return f"{message.id} was delivered, and its {price} was released"
    is_right = not taken.captured or state == DELIVERED or taken.captured[0][1] in BY_PLAN
    return (
        None
        if is_right
        else f"{message.id} is {state}, and its {price} was captured ({taken.captured[0][1]})"
    )


def _compare(made: Books, before: Snapshot, after: Snapshot) -> None:
    """Compare the sums with each other, and with the account before and after."""
    owed = made.delivered + made.by_plan + made.late
    if made.captured != owed and not made.open_count:
        made.faults.append(f"captured is {made.captured}; the delivered messages cost {owed}")
    moves_alone = before.is_quiet and after.is_quiet and not made.other_entries and not made.has_earlier
    if not moves_alone or made.open_count:
        return
    made.balance_moved = Money(before.posted_micros, before.currency) - Money(
        after.posted_micros, after.currency
    )
    if made.balance_moved != made.captured:
        made.faults.append(f"the balance moved by {made.balance_moved}; captured is {made.captured}")
    if before.held_micros != after.held_micros:
        held = format_micros(after.held_micros - before.held_micros)
        made.faults.append(f"{held} {after.currency} more is held than before, though every message is final")
