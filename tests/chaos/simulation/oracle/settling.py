"""The oracle of receive_batch_v1, settle_batch_v1 and the callbacks' functions (RULES 17, 23, 24, 36)."""

from collections import Counter
from typing import Any, NamedTuple
from uuid import UUID

from tests.chaos.simulation.oracle.sending import end_taken
from tests.chaos.simulation.oracle.tables import (
    EVENT_TYPES,
    FINAL_WORDS,
    HAS_IT_WORDS,
    LOST_WORDS,
    REACHED,
    TAKEN_WORDS,
    Attempt,
    Callback,
    Message,
    Receipt,
    Reference,
    S,
    Tables,
)
from tests.chaos.simulation.wire import (
    CLAIM_SECONDS,
    DAY,
    HOUR,
    KEEP_HOURS,
    LEASE_SECONDS,
    SECOND,
    SETTLE_LEASE_SECONDS,
    Word,
)

MATCH_US = 7 * DAY
SOON_US = 60 * SECOND
# From a claim: later than that no worker records its outcome.
ANSWER_US = (CLAIM_SECONDS + 180) * SECOND
OUTWAIT_SECONDS = 900
EARLY_SECONDS = 60
MAY_END = (S.SENT, S.UNKNOWN, S.SENDING)
WAITS = (S.QUEUED, S.FAILED_TEMP)


class Place(NamedTuple):
    """The part of an attempt that a receipt belongs to."""

    message: UUID
    attempt: int
    part: int


def receive(t: Tables, words: list[Word]) -> None:
    """Keep receipts; the same id again is nothing new."""
    for word in words:
        if word.id not in t.receipts:
            due = t.now + SETTLE_LEASE_SECONDS * SECOND
            t.receipts[word.id] = Receipt(*word, received_us=t.now, due_us=due)


def settle(t: Tables, ids: list[UUID]) -> list[tuple[Any, ...]]:
    """(outcome, message, state, callback) for each position; state and callback only where it moved."""
    ordinary = _ordinary(t, ids)
    places: list[Place | None] = []
    outcomes: list[str | None] = []
    for nth, receipt_id in enumerate(ids):
        place: Place | None = None
        outcome: str | None = "done"
        if t.receipts[receipt_id].settled_us is None and receipt_id not in ids[:nth]:
            place, outcome = _match(t, t.receipts[receipt_id])
        places.append(place)
        outcomes.append(outcome)
    final = _note(t, ids, places, outcomes)
    noted = [(n, p.message) for n, p in enumerate(places) if p and outcomes[n] == "noted"]
    told = _fold(t, [message for _, message in noted], ordinary)
    # An end is told by the first final word, or the first of all.
    tellers = {message: n for n, message in sorted(noted, key=lambda x: (x[0] not in final, x[0]))[::-1]}
    answers: list[tuple[Any, ...]] = []
    for nth, (receipt_id, place, outcome) in enumerate(zip(ids, places, outcomes, strict=True)):
        word = outcome
        state: str | None = None
        callback: UUID | None = None
        if place and place.message in told and tellers[place.message] == nth:
            word, state, callback = told[place.message]
        if word != "done":
            _keep(t, t.receipts[receipt_id], word or "", place)
        word = "waiting" if word == "early" else word
        answers.append((word, place.message if place else None, state, callback))
    return answers


def _ordinary(t: Tables, ids: list[UUID]) -> set[UUID]:
    """The messages that settle before all others of the call: one attempt, one part, and one final word."""
    found = [[r for r in t.references if _fits(t, t.receipts[i], r)] for i in ids]
    times = Counter(reference.message for one in found for reference in one)
    plain = set()
    for receipt, one in zip((t.receipts[i] for i in ids), found, strict=True):
        is_final = receipt.settled_us is None and receipt.state in FINAL_WORDS
        is_plain = (
            len(one) == 1 and receipt.echo_message in (None, one[0].message) and receipt.part in (None, 1)
        )
        if is_final and is_plain and times[one[0].message] == 1:
            message = t.messages[one[0].message]
            is_one = (message.state, message.attempt_no, message.parts) == (S.SENT, 1, 1)
            if is_one and receipt.msisdn in (None, message.msisdn):
                plain.add(message.id)
    return plain


def _match(t: Tables, receipt: Receipt) -> tuple[Place | None, str | None]:
    found = [r for r in t.references if _fits(t, receipt, r)]
    opened = {(r.message, r.part) for r in found if _attempt_of(t, r).is_unanswered}
    best = min(found, key=lambda r: _newest_open(t, r), default=None)
    is_clear = best is not None and len(opened) < 2 and receipt.echo_message in (None, best.message)
    if not is_clear and receipt.echo_message is not None:
        echoed = _echoed(t, receipt, {r.message for r in found})
        if echoed:
            return (
                (None, _unknown(t, receipt))
                if _is_doubtful(t, receipt, echoed)
                else _placed(receipt, echoed[0])
            )
    if len(opened) > 1:
        return None, "ambiguous"
    if best is not None and (is_clear or not _had(t, receipt)):
        if _is_early(t, receipt, best):
            return None, "early"
        return _placed(receipt, Place(best.message, best.attempt, best.part))
    return None, _unknown(t, receipt)


def _placed(receipt: Receipt, place: Place) -> tuple[Place, str | None]:
    """A part that was lost of what we submitted whole is its end; all else of such a part is only kept."""
    is_beside = receipt.part not in (None, place.part) and receipt.state not in LOST_WORDS
    return place, "noted" if is_beside else None


def _may_name(receipt: Receipt, message: Message, part: int) -> bool:
    """What we submit whole the carrier may send, and tell of, in parts."""
    return receipt.part in (None, part) or message.parts == 1


def _newest_open(t: Tables, reference: Reference) -> tuple[Any, ...]:
    is_closed = not _attempt_of(t, reference).is_unanswered
    return is_closed, -reference.submitted_us, -reference.attempt, reference.part


def _had(t: Tables, receipt: Receipt) -> bool:
    """The carrier had the message whose id it echoes."""
    message = t.messages.get(receipt.echo_message) if receipt.echo_message else None
    return message is not None and any(a.carrier == receipt.carrier for a in message.attempts.values())


def _is_early(t: Tables, receipt: Receipt, reference: Reference) -> bool:
    """All of that name is over, and who is meant may not be recorded yet."""
    message = t.messages[reference.message]
    is_over = message.state.is_final or not _attempt_of(t, reference).is_unanswered
    is_numbered = receipt.msisdn is not None and _is_to(receipt, message)
    is_named = is_numbered or receipt.echo_message == message.id
    return is_over and not is_named and receipt.received_us > t.now - ANSWER_US


def _unknown(t: Tables, receipt: Receipt) -> str:
    return "waiting" if receipt.received_us > t.now - KEEP_HOURS * HOUR else "unmatched"


def _attempt_of(t: Tables, reference: Reference) -> Any:
    return t.messages[reference.message].attempts[reference.attempt, reference.part]


def _is_to(receipt: Receipt, message: Message) -> bool:
    """It tells no number, or the message's, with its country's code or without that."""
    told, number = receipt.msisdn, message.msisdn
    if told is None or told == number:
        return True
    return number.endswith(told[1:]) and len(number) - len(told) in (1, 2, 3)


def _fits(t: Tables, receipt: Receipt, reference: Reference) -> bool:
    return (
        (reference.carrier, reference.reference) == (receipt.carrier, receipt.reference)
        and abs(reference.submitted_us - receipt.received_us) <= MATCH_US
        and reference.submitted_us != receipt.received_us - MATCH_US
        and reference.submitted_us <= t.now + SOON_US
        and _is_to(receipt, t.messages[reference.message])
        and _may_name(receipt, t.messages[reference.message], reference.part)
    )


def _echoed(t: Tables, receipt: Receipt, named: set[UUID]) -> list[Place]:
    """The attempts our own id leads to, the likeliest first; of a message ``named``, those of that name."""
    message = t.messages.get(receipt.echo_message) if receipt.echo_message else None
    if message is None or not _is_to(receipt, message):
        return []
    knows_ids = t.carriers[receipt.carrier].recognises
    fitting = [
        (a.reference != receipt.reference, -number if knows_ids else 0, not a.is_unanswered, number, part)
        for (number, part), a in message.attempts.items()
        if a.carrier == receipt.carrier
        and receipt.echo_attempt in (None, number)
        and _may_name(receipt, message, part)
        and (a.outcome in REACHED or a.receipt is not None)
        and a.claimed_us > receipt.received_us - MATCH_US
        and (
            a.reference in (None, receipt.reference)
            or receipt.echo_attempt is not None
            or knows_ids
            or _is_only_try(message, number, part)
        )
        and (message.id not in named or a.reference == receipt.reference)
        and (receipt.part is not None or _is_only_part(message, number, part))
    ]
    return [Place(message.id, number, part) for *_, number, part in sorted(fitting)]


def _is_doubtful(t: Tables, receipt: Receipt, places: list[Place]) -> bool:
    """Which of several without a name is meant, the answers to come will say; delivered is delivered."""
    message = t.messages[places[0].message]
    attempts = [message.attempts[place.attempt, place.part] for place in places]
    return (
        len(places) > 1
        and attempts[0].reference is None
        and receipt.state != "delivered"
        and not t.carriers[receipt.carrier].recognises
        and any(a.outcome is None or a.claimed_us > t.now - ANSWER_US for a in attempts)
    )


def _is_only_try(message: Message, number: int, part: int) -> bool:
    carrier = message.attempts[number, part].carrier
    return not any(
        n != number and p == part and a.carrier == carrier for (n, p), a in message.attempts.items()
    )


def _is_only_part(message: Message, number: int, part: int) -> bool:
    return not any(n == number and p != part for n, p in message.attempts)


def _note(t: Tables, ids: list[UUID], places: list[Place | None], outcomes: list[str | None]) -> set[int]:
    """One after the other, the first final word on a part stands; a lost part comes before other ends.

    Return where such a word was noted.
    """
    final = set()
    turns: dict[Place, int] = {}
    news: list[tuple[int, bool, int, Place]] = []
    for nth, place in enumerate(places):
        if outcomes[nth] is None and place:
            receipt = t.receipts[ids[nth]]
            turn = turns.setdefault(place, nth) if receipt.state in FINAL_WORDS else nth
            news.append((turn, receipt.part in (None, place.part), nth, place))
    for _, _, nth, place in sorted(news):
        message = t.messages[place.message]
        if message.attempts[place.attempt, place.part].is_unanswered:
            outcomes[nth] = "noted"
            final |= {nth} if t.receipts[ids[nth]].state in FINAL_WORDS else set()
            _write(t, message, place, t.receipts[ids[nth]])
        else:
            outcomes[nth] = "repeated"
    return final


def _write(t: Tables, message: Message, place: Place, receipt: Receipt) -> None:
    knows_ids = t.carriers[receipt.carrier].recognises
    for (number, part), attempt in message.attempts.items():
        is_same_submit = attempt.carrier == receipt.carrier and (
            (attempt.reference, attempt.outcome) == (receipt.reference, "submitted")
            or (knows_ids and attempt.outcome in REACHED)
        )
        if part == place.part and (number == place.attempt or is_same_submit) and attempt.is_unanswered:
            attempt.receipt = _standing(attempt, receipt.state)
            if number == place.attempt:
                attempt.reference = attempt.reference or receipt.reference
            if attempt.outcome not in (None, "submitted") and receipt.state in HAS_IT_WORDS:
                _prove(t, message, number, part, is_named=number == place.attempt)


def _prove(t: Tables, message: Message, number: int, part: int, *, is_named: bool) -> None:
    """What the carrier has was submitted, though its answer was lost, or was a refusal."""
    attempt = message.attempts[number, part]
    attempt.outcome, attempt.outcome_us = "submitted", t.now
    if is_named and attempt.reference is not None:
        since_us = max(attempt.claimed_us, t.now - MATCH_US)
        t.references.append(Reference(attempt.carrier, attempt.reference, since_us, message.id, number, part))


def _standing(attempt: Attempt, word: str) -> str | None:
    """What is known stays known: what a receipt alone says was taken was not refused but lost."""
    is_taken = attempt.receipt in TAKEN_WORDS
    if is_taken and word == "unknown":
        return attempt.receipt
    if is_taken and word == "rejected" and attempt.outcome != "submitted":
        return "undelivered"
    return word


def _fold(t: Tables, noted: list[UUID], first: set[UUID]) -> dict[UUID, tuple[str, str | None, UUID | None]]:
    """What the news made of each message; ``first`` are settled before the others."""
    told: dict[UUID, tuple[str, str | None, UUID | None]] = {}
    late: list[Message] = []
    moved = [t.messages[m] for m in sorted(set(noted))]
    for message in (m for m in moved if m.id in first):
        _fold_one(t, message, told, late)
    others = [m for m in moved if m.id not in first]
    for message in others:
        taken = {part for (_, part), attempt in message.attempts.items() if _is_taken(attempt)}
        if message.charge == "submitted" and len(taken) >= message.parts:
            t.settle_hold(message, "capture", "submitted")
    for message in others:
        _fold_one(t, message, told, late)
    for message in late:
        told[message.id] = _capture_late(t, message)
    return told


def _is_taken(attempt: Attempt) -> bool:
    return attempt.outcome == "submitted" or attempt.receipt in TAKEN_WORDS


def _is_over(t: Tables, message: Message, parts: dict[int, list[Attempt]], delivered: set[int]) -> bool:
    """A part's end was said by a carrier that knows our ids, or of what must not be submitted twice."""
    is_once = message.delivery == "at_most_once"
    return any(
        attempt.receipt in FINAL_WORDS
        and (t.carriers[attempt.carrier].recognises or (is_once and attempt.outcome == "uncertain"))
        for part, attempts in parts.items()
        if part not in delivered
        for attempt in attempts
    )


def _is_asked_for_nothing(
    t: Tables, message: Message, parts: dict[int, list[Attempt]], delivered: set[int]
) -> bool:
    """It waits to be sent again, and carriers had every part, or that would be of no use."""
    taken = sum(any(a.outcome == "submitted" for a in each) for each in parts.values())
    return message.state in WAITS and (taken >= message.parts or _is_over(t, message, parts, delivered))


def _fold_one(
    t: Tables,
    message: Message,
    told: dict[UUID, tuple[str, str | None, UUID | None]],
    late: list[Message],
) -> None:
    parts: dict[int, list[Attempt]] = {}
    for (_, part), attempt in message.attempts.items():
        parts.setdefault(part, []).append(attempt)
    delivered = {p for p, a in parts.items() if any(x.receipt == "delivered" for x in a)}
    waiting = [p for p, a in parts.items() if p not in delivered and any(x.is_open for x in a)]
    is_expired = any(x.receipt == "expired" for a in parts.values() for x in a)
    if 0 < len(delivered) < message.parts:
        message.parts_delivered = len(delivered)
    if len(delivered) >= message.parts:
        if message.knows("delivered"):
            told[message.id] = _end(t, message, "delivered", "capture", "delivered")
        elif message.state is not S.DELIVERED and not message.is_late:
            late.append(message)
    elif not waiting and (message.state in MAY_END or _is_asked_for_nothing(t, message, parts, delivered)):
        event = "carrier_expired" if is_expired and not delivered else "undelivered"
        reason = "delivered_in_part" if delivered else "undelivered"
        told[message.id] = _end(
            t, message, event, "release", "expired_by_carrier" if event == "carrier_expired" else reason
        )
    elif end_taken(t, message):
        told[message.id] = "noted", message.state.value, None


def _end(t: Tables, message: Message, event: str, kind: str, reason: str) -> tuple[str, str, UUID | None]:
    message.is_possible_duplicate &= message.may_be_twice
    callback = t.finish(message, event, kind if message.lock == "HELD" else None, reason, LEASE_SECONDS)
    return "moved", message.state.value, callback


def _capture_late(t: Tables, message: Message) -> tuple[str, None, UUID | None]:
    claimed = [attempt.claimed_us for attempt in message.attempts.values() if attempt.receipt == "delivered"]
    submitted_us = max(claimed) if message.submitted_us is None else message.submitted_us
    is_taken = message.lock == "RELEASED" and submitted_us > t.now - MATCH_US
    if is_taken:
        t.settle_hold(message, "late_capture", "delivered_late")
    message.is_late = True
    message.sequence += 1
    callback = t.add_callback(message, "message.late_receipt", LEASE_SECONDS)
    return "late_capture" if is_taken else "late", None, callback


def _keep(t: Tables, receipt: Receipt, outcome: str, place: Place | None) -> None:
    if outcome == "waiting":
        longest = max(OUTWAIT_SECONDS, (t.now - receipt.received_us) // (8 * SECOND))
        receipt.due_us = t.now + min(2 ** min(receipt.tries, 16), longest) * SECOND
    elif outcome == "early":
        receipt.due_us = t.now + EARLY_SECONDS * SECOND
    else:
        receipt.settled_us, receipt.outcome = t.now, outcome
    receipt.tries += 1
    receipt.message, receipt.attempt = (place.message, place.attempt) if place else (None, None)
    receipt.part = place.part if place and receipt.part is None else receipt.part


def lease_receipts(t: Tables) -> list[UUID]:
    """Receipts that are due again."""
    due = [r for r in t.receipts.values() if r.settled_us is None and r.due_us <= t.now]
    for receipt in due:
        receipt.due_us = t.now + SETTLE_LEASE_SECONDS * SECOND
    return sorted(r.id for r in due)


def load_callbacks(t: Tables, ids: list[UUID]) -> list[tuple[Any, ...]]:
    """(skip, event type, sequence, attempts, message, state, charged) for each position."""
    answers: list[tuple[Any, ...]] = []
    for id_ in ids:
        callback = t.callbacks[id_]
        message = t.messages[callback.message]
        skip = "done" if callback.done_us is not None else None
        is_sent = callback.event_type == "message.sent"
        if skip is None and is_sent and _is_overtaken(t, message):
            skip = "superseded"
        if skip is None and _is_behind(t, callback, message):
            skip = "behind"
        is_charged = message.lock == "CAPTURED"
        if is_sent:
            is_charged = is_charged and message.charge == "submitted"
        elif callback.event_type == "message.late_receipt":
            is_charged = is_charged or message.is_late_captured
        told = (callback.event_type, callback.sequence, callback.attempts)
        state = "SENT" if is_sent and message.final_us is not None else message.state.value
        answers.append((skip, *told, message.id, state, is_charged))
    return answers


def _is_overtaken(t: Tables, message: Message) -> bool:
    """A later event than the submit is told, too."""
    events = t.owners[message.account].events
    is_end_told = message.final_us is not None and EVENT_TYPES[message.state.value] in events
    return is_end_told or (message.is_late and "message.late_receipt" in events)


def _is_behind(t: Tables, callback: Callback, message: Message) -> bool:
    """An end waits for a "sent" that is leased, a late receipt for the end."""
    before = [
        c for c in t.callbacks.values()
        if c.message == message.id and c.sequence == callback.sequence - 1 and c.done_us is None
    ]  # fmt: skip
    if callback.event_type == "message.late_receipt":
        return bool(before)
    return any(t.is_leased(c) for c in before)


def lease_callbacks(t: Tables) -> list[UUID]:
    """Callbacks that are due."""
    due = sorted(i for i, c in t.callbacks.items() if c.done_us is None and c.due_us <= t.now)
    for id_ in due:
        t.callbacks[id_].due_us = t.now + LEASE_SECONDS * SECOND
        t.callbacks[id_].is_leased = True
    return due


def record_callbacks(t: Tables, notes: list[tuple[UUID, int, str | None]]) -> None:
    """Note tries; outcome None is "again in 30 s"."""
    for id_, attempt, outcome in notes:
        callback = t.callbacks[id_]
        is_noted = outcome is None and attempt == callback.attempts
        if callback.done_us is not None or attempt < callback.attempts or is_noted:
            continue
        callback.attempts = attempt
        callback.outcome = outcome
        callback.is_leased = False
        if outcome is not None:
            callback.done_us = t.now
        else:
            callback.due_us = t.now + 30 * SECOND
