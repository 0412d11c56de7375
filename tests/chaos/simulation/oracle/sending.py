"""The oracle of claim_batch_v1, record_batch_v1 and recover_claims_v1 (RULES 15 to 18)."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from shared.domain.states import MessageState
from tests.chaos.simulation.oracle.tables import (
    FINAL_WORDS,
    HAS_IT_WORDS,
    Attempt,
    Message,
    Reference,
    S,
    Tables,
)
from tests.chaos.simulation.wire import (
    CLAIM_SECONDS,
    RECEIPT_WAIT_SECONDS,
    SECOND,
    TRIES_MAX,
    Line,
)

# What the parts of an attempt say together: the worst for certainty first.
WORST_FIRST = ("uncertain", "refused_perm", "refused_temp", "throttled", "unclaimed")
USES_NO_TRY = ("throttled", "unclaimed")
REFUSALS = ("refused_temp", "refused_perm")
MARGIN_US = 5 * SECOND
PUT_OFF_LEAST_US = 5 * SECOND


def claim(t: Tables, work: list[tuple[UUID, int]], carrier: int, claim_id: UUID) -> list[tuple[Any, ...]]:
    """(refusal, attempt, parts) for each position."""
    answers: list[tuple[Any, ...]] = []
    seen: set[tuple[UUID, int]] = set()
    for message_id, dispatch_no in work:
        message, row = t.messages[message_id], t.outbox.get(message_id)
        if (message_id, dispatch_no) in seen:
            answers.append(("lost", None, None))
            continue
        seen.add((message_id, dispatch_no))
        is_asked = row is not None and row.dispatch_no == dispatch_no
        if is_asked and message.state is S.SENDING and message.claim == claim_id:
            answers.append((None, message.attempt_no, _parts(message, message.attempt_no)))
            continue
        refusal = _refusal(t, message, dispatch_no)
        if refusal is not None:
            if refusal in ("expired", "suspended", "no_hold"):
                t.outbox[message_id].due_us = t.now
            answers.append((refusal, None, None))
            continue
        parts = _parts(message, message.attempt_no + 1)
        _take(t, message, carrier, claim_id, parts)
        row = t.outbox[message_id]
        row.due_us = min(row.due_us, t.now + CLAIM_SECONDS * SECOND + MARGIN_US)
        answers.append((None, message.attempt_no, parts))
    return answers


def put_off(t: Tables, work: list[tuple[UUID, int]], seconds: float) -> None:
    """What is not claimed yet is due again later, and its place in the stream counts no more."""
    for message_id, dispatch_no in work:
        row, message = t.outbox.get(message_id), t.messages[message_id]
        if row is None or row.dispatch_no != dispatch_no or message.state not in (S.QUEUED, S.FAILED_TEMP):
            continue
        row.dispatch_no += 1
        row.leased_us, row.incarnation, row.lease_seconds = None, 0, 60
        longest_us = max(round((message.valid_us - t.now) / 4), PUT_OFF_LEAST_US)
        row.due_us = min(message.valid_us, t.now + min(int(seconds * SECOND), longest_us))


def _refusal(t: Tables, message: Message, dispatch_no: int) -> str | None:
    row = t.outbox.get(message.id)
    if row is None or not message.knows("claimed") or row.dispatch_no != dispatch_no:
        return "stale"
    if message.valid_us <= t.now:
        return "expired"
    if row.dispatch_us > t.now:
        return "early"
    if t.owners[message.account].suspended:
        return "suspended"
    is_paid = message.lock == "HELD" or (message.lock == "CAPTURED" and message.charge == "submitted")
    return None if is_paid else "no_hold"


def _parts(message: Message, number: int) -> list[int]:
    taken = {p for (n, p), a in message.attempts.items() if n < number and a.outcome == "submitted"}
    every = list(range(1, message.parts + 1))
    return [part for part in every if part not in taken] or every


def _take(t: Tables, message: Message, carrier: int, claim_id: UUID, parts: list[int]) -> None:
    message.state = S.SENDING
    message.attempt_no += 1
    message.sequence += 1
    message.carrier = carrier
    message.claim = claim_id
    message.claim_deadline_us = t.now + CLAIM_SECONDS * SECOND
    for part in parts:
        message.attempts[message.attempt_no, part] = Attempt(carrier, t.now)


def record(t: Tables, lines: list[Line], carrier: int) -> list[tuple[Any, ...]]:
    """(moved, state, waiting receipts) for each position."""
    may_ask_again = t.carriers[carrier].recognises
    _note(t, lines, carrier, may_ask_again)
    moved = [False] * len(lines)
    states: list[str | None] = [t.messages[line.message].state.value for line in lines]
    done: set[UUID] = set()
    verdicts = [(t.messages[m], n, places) for (m, n), places in _groups(lines)]
    ends: list[tuple[Message, str]] = []
    captures: list[Message] = []
    for message, number, places in verdicts:
        group = [lines[place] for place in places]
        attempts = [message.attempts.get((number, line.part)) for line in group]
        known = [a for a in attempts if a is not None]
        if not any(a.outcome_us == t.now for a in known):
            is_known = bool(known) and all(
                a.outcome == x.outcome
                or (a.outcome == "submitted" and a.error is not None and a.error == x.error)
                for a, x in zip(attempts, group, strict=True)
                if a
            )
            moved[places[0]] = message.attempt_no == number and is_known
            continue
        words = {a.outcome for a in known if a.outcome_us == t.now}
        word = next((each for each in WORST_FIRST if each in words), "submitted")
        is_answered = any(line.outcome == "submitted" for line in group)
        if word == "submitted" and message.charge == "submitted" and is_answered:
            captures.append(message)
        waits = message.state in (S.QUEUED, S.FAILED_TEMP, S.UNKNOWN)
        if (message.attempt_no == number or waits) and is_taken(message):
            word = "submitted"
        if message.id in done or not message.knows(word) or not _may_move(message, number, word):
            continue
        done.add(message.id)
        moved[places[0]] = True
        state = _move(t, message, word, group, carrier, ends)
        states[places[0]] = state.value
    for message, error in sorted(ends, key=lambda end: end[0].id):
        t.finish(message, "refused_perm", "release", error)
    for message in captures:
        t.settle_hold(message, "capture", "submitted")
    for message in t.messages.values():
        if message.id in done and message.state is S.SENT:
            t.add_callback(message, "message.sent", 0)
    waiting = {
        line.reference: _waiting(t, carrier, line.reference) for line in lines if line.outcome == "submitted"
    }
    return [
        (moved[n], states[n], waiting.get(line.reference) or None if line.outcome == "submitted" else None)
        for n, line in enumerate(lines)
    ]


def _groups(lines: list[Line]) -> Iterator[tuple[tuple[UUID, int], list[int]]]:
    groups: dict[tuple[UUID, int], list[int]] = {}
    for place, line in enumerate(lines):
        groups.setdefault((line.message, line.attempt), []).append(place)
    yield from sorted(groups.items())


def _knows(attempt: Attempt, line: Line) -> bool:
    """Whether this answer was recorded before: a receipt may have outweighed it then."""
    is_outweighed = attempt.outcome == "submitted" and attempt.error is not None
    return attempt.outcome == line.outcome or (is_outweighed and attempt.error == line.error)


def _note(t: Tables, lines: list[Line], carrier: int, may_ask_again: bool) -> None:
    for line in lines:
        message = t.messages[line.message]
        attempt = message.attempts.get((line.attempt, line.part))
        if attempt is None or attempt.outcome_us == t.now:
            continue
        if attempt.outcome is not None and (attempt.outcome != "uncertain" or line.outcome == "uncertain"):
            continue
        is_proved = line.outcome != "submitted" and attempt.receipt in HAS_IT_WORDS
        attempt.outcome, attempt.outcome_us = "submitted" if is_proved else line.outcome, t.now
        attempt.error = line.error
        if line.reference is not None:
            attempt.reference = line.reference
        name = attempt.reference if is_proved else line.reference
        if attempt.outcome == "submitted" and name is not None:
            t.references.append(Reference(carrier, name, t.now, line.message, line.attempt, line.part))
    if may_ask_again:
        for line in lines:
            _same_submit(t, t.messages[line.message], line, carrier)


def _same_submit(t: Tables, message: Message, line: Line, carrier: int) -> None:
    newest = message.attempts.get((line.attempt, line.part))
    if newest is None or newest.outcome != "submitted" or newest.outcome_us != t.now:
        return
    for (number, part), attempt in message.attempts.items():
        is_before = part == line.part and number < line.attempt and attempt.carrier == carrier
        if is_before and attempt.outcome in (None, "uncertain"):
            attempt.outcome, attempt.outcome_us, attempt.reference = "submitted", t.now, newest.reference


def end_taken(t: Tables, message: Message) -> bool:
    """Nothing more is sent of what a carrier has whole, though its answer was lost. True: it is SENT now."""
    if message.state not in (S.QUEUED, S.FAILED_TEMP, S.UNKNOWN) or not is_taken(message):
        return False
    taken = [
        (a.outcome_us or 0, number, a.carrier)
        for (number, _), a in message.attempts.items()
        if a.outcome == "submitted" and a.receipt not in FINAL_WORDS - {"delivered"}
    ]
    t.outbox.pop(message.id, None)
    message.state, message.carrier, message.submitted_us, message.error = S.SENT, max(taken)[2], t.now, None
    message.sequence += 1
    message.is_possible_duplicate &= message.may_be_twice
    t.add_callback(message, "message.sent", 0)
    return True


def _may_move(message: Message, number: int, word: str) -> bool:
    """A late word moves a message that waits only when no part is missing, or none can have left."""
    if word == "submitted" and message.state in (S.QUEUED, S.FAILED_TEMP, S.UNKNOWN):
        return is_taken(message)
    if message.state is S.UNKNOWN and word in ("throttled", "unclaimed", "refused_temp"):
        words = {a.outcome for (n, _), a in message.attempts.items() if n == number}
        return message.attempt_no == number and not words & {None, "uncertain"}
    return message.attempt_no == number


def is_taken(message: Message) -> bool:
    """By some attempt or other a carrier has every part, and has not said that one of them is lost."""
    taken = {
        part
        for (_, part), a in message.attempts.items()
        if a.outcome == "submitted" and a.receipt not in FINAL_WORDS - {"delivered"}
    }
    return len(taken) >= message.parts


def _move(
    t: Tables, message: Message, word: str, group: list[Line], carrier: int, ends: list[tuple[Message, str]]
) -> MessageState:
    may_ask_again = t.carriers[carrier].recognises
    retry_us = round(max(line.retry_seconds for line in group) * SECOND)
    error = max((line.error for line in group if line.error is not None), default=None)
    if word == "submitted":
        error = None
    has_another = message.tries + 1 < TRIES_MAX and t.now + retry_us < message.valid_us
    is_last = word == "refused_perm" or not has_another
    of_its_own = carrier if may_ask_again else None
    if word in REFUSALS and is_last and not _may_have_reached(message, group[0].attempt, of_its_own):
        ends.append((message, error or "refused"))
        return S.FAILED_PERM
    state = _next(message, group[0].attempt, word, may_ask_again, has_another)
    message.is_possible_duplicate |= word == "uncertain" and not may_ask_again and state is S.QUEUED
    message.tries += word not in USES_NO_TRY
    message.state = state
    message.error = error
    message.sequence += 1
    message.claim_deadline_us = None
    if state is S.SENT:
        message.is_possible_duplicate &= message.may_be_twice
        message.submitted_us = t.now
        t.outbox.pop(message.id, None)
    else:
        _wait(t, message, word, group[0], retry_us, carrier)
    return state


def _may_have_reached(message: Message, number: int, of_its_own: int | None) -> bool:
    """Every part that was refused may still be delivered by an earlier attempt.

    A carrier that knows our ids speaks for all attempts ``of_its_own``.
    """
    refused = [p for (n, p), a in message.attempts.items() if n == number and a.outcome in REFUSALS]
    return all(
        any(
            a.is_open and a.carrier != of_its_own
            for (n, p), a in message.attempts.items()
            if p == part and n < number
        )
        for part in refused
    )


def _next(message: Message, number: int, word: str, may_ask_again: bool, has_another: bool) -> MessageState:
    if word == "submitted":
        return S.SENT
    if word in USES_NO_TRY:
        return S.QUEUED
    if word in REFUSALS:
        return S.FAILED_TEMP if word == "refused_temp" and has_another else S.UNKNOWN
    is_used_up = message.is_possible_duplicate and _has_gone_before(message, number)
    sends_again = may_ask_again or (message.delivery == "at_least_once" and not is_used_up)
    return S.QUEUED if sends_again and has_another else S.UNKNOWN


def _has_gone_before(message: Message, number: int) -> bool:
    """An attempt before this one may have brought one of its parts to the phone."""
    parts = {part for (n, part) in message.attempts if n == number}
    return any(
        a.outcome in (None, "submitted", "uncertain") and (a.error == "restored" or part in parts)
        for (n, part), a in message.attempts.items()
        if n < number
    )


def _wait(t: Tables, message: Message, word: str, line: Line, retry_us: int, carrier: int) -> None:
    row = t.outbox[message.id]
    is_bound = t.carriers[carrier].recognises and any(
        a.carrier == carrier and a.outcome == "uncertain" for a in message.attempts.values()
    )
    at = t.now + retry_us
    if message.state is S.UNKNOWN:
        at = t.now + RECEIPT_WAIT_SECONDS * SECOND
    elif word == "unclaimed" and not is_bound:
        at = t.now
    row.dispatch_no += 1
    row.dispatch_us = row.due_us = min(message.valid_us, at)
    row.leased_us, row.incarnation, row.lease_seconds = None, 0, 60
    if line.next_carrier is not None and not is_bound:
        row.carrier = line.next_carrier


def _waiting(t: Tables, carrier: int, reference: str | None) -> list[UUID]:
    return sorted(
        r.id for r in t.receipts.values()
        if r.carrier == carrier and r.reference == reference and r.settled_us is None
    )  # fmt: skip


def recover(t: Tables, messages: list[UUID]) -> list[tuple[Any, ...]]:
    """(message, state) of those that were taken over."""
    lost: dict[int, list[Line]] = {}
    for message in sorted((t.messages[m] for m in messages), key=lambda m: m.id):
        is_over = message.claim_deadline_us is not None and message.claim_deadline_us + MARGIN_US <= t.now
        for (number, part), attempt in sorted(message.attempts.items()):
            if (
                message.state is S.SENDING
                and is_over
                and number == message.attempt_no
                and attempt.outcome is None
            ):
                line = Line(message.id, number, part, "uncertain", None, "worker_lost", 1.0, None)
                lost.setdefault(message.carrier, []).append(line)
    moved = []
    for carrier, lines in sorted(lost.items()):
        answers = record(t, lines, carrier)
        moved += [(x.message, answer[1]) for x, answer in zip(lines, answers, strict=True) if answer[0]]
    return sorted(moved)
