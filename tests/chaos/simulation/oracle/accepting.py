"""The oracle of accept_batch_v1, cancel_batch_v1 and post_credit_v1 (RULES 9 to 11, 20, 25)."""

from typing import Any
from uuid import UUID

from tests.chaos.simulation.oracle.tables import SOON_US, Message, Outbox, Owner, S, Tables
from tests.chaos.simulation.wire import HOUR, LEASE_SECONDS, SECOND, START_MS, Want

SLOT_SECONDS = 43_200
SLOTS_KEPT = 6
Found = tuple[str, UUID, str | None]


def accept(t: Tables, wants: list[Want], incarnation: int) -> list[tuple[Any, ...]]:
    """(outcome, message, problem, available, state, dispatch_now) for each position, one by one."""
    before: list[tuple[Want, Found]] = []
    answers: list[tuple[Any, ...] | None] = []
    fresh: list[int] = []
    for want in wants:
        found = _known(t, want)
        twin = None if found else _twin(before, want)
        if found is None and twin is None:
            fresh.append(len(answers))
            answers.append(None)
            # What it becomes is decided below, in its account's order; its twins are told afterwards.
            before.append((want, ("fresh", want.message, None)))
        else:
            answers.append((*(found or ("twin", twin, None)), None, None, False))
            before.append((want, found or ("twin", want.message, None)))
    for nth in sorted(fresh, key=lambda n: (wants[n].account, n)):
        answers[nth] = _place(t, wants[nth], incarnation)
    return [_told(wants, answers, nth) for nth in range(len(wants))]


def _known(t: Tables, want: Want) -> Found | None:
    if want.message in t.messages:
        return "replayed", want.message, None
    if want.key is None:
        return None
    slot = (START_MS // 1000 + t.now // SECOND) // SLOT_SECONDS
    rows = [
        row for row in t.keys.get((want.account, want.key), [])
        if slot - SLOTS_KEPT <= row[0] <= slot + 1 and row[4] > t.now - 72 * HOUR
    ]  # fmt: skip
    if not rows:
        return None
    _, fingerprint, message, problem, _ = max(rows, key=lambda row: row[0])
    if fingerprint != want.fingerprint:
        return "mismatch", message, None
    if problem is None:
        return "replayed", message, None
    return "refused" if message == want.message else "refused_before", message, problem


def _twin(before: list[tuple[Want, Found]], want: Want) -> int | None:
    for nth, (other, _) in enumerate(before):
        same_key = want.key is not None and (other.account, other.key) == (want.account, want.key)
        if other.message == want.message or same_key:
            return nth
    return None


def _told(wants: list[Want], answers: list[tuple[Any, ...] | None], nth: int) -> tuple[Any, ...]:
    answer = answers[nth]
    assert answer is not None
    if answer[0] != "twin":
        return answer
    first_nth = answer[1]
    first = answers[first_nth]
    assert first is not None
    if wants[nth].fingerprint != wants[first_nth].fingerprint:
        return ("mismatch", first[1], None, None, None, False)
    word = {"accepted": "replayed", "refused": "refused_before"}.get(first[0], first[0])
    return (word, first[1], first[2], None, None, False)


def _place(t: Tables, want: Want, incarnation: int) -> tuple[Any, ...]:
    owner = t.owners[want.account]
    problem = owner.refuses(want.amount, want.max_price)
    if want.key is not None:
        slot = (START_MS // 1000 + t.now // SECOND) // SLOT_SECONDS
        row = (slot, want.fingerprint, want.message, problem, t.now)
        t.keys.setdefault((want.account, want.key), []).append(row)
    if problem is not None:
        return ("refused", want.message, problem, owner.available, None, False)
    owner.place(want.amount)
    t.book(want.account, "hold", want.message, want.amount, None)
    is_scheduled = want.send_at is not None and want.send_at > t.now + SOON_US
    dispatch_us = max(t.now, want.send_at or 0, 0 if is_scheduled or want.is_test else _pace(t, owner))
    is_due = dispatch_us <= t.now + SOON_US
    valid_us = max(t.now, want.send_at or 0) + want.valid_seconds * SECOND
    state = S.SCHEDULED if is_scheduled else S.QUEUED
    t.messages[want.message] = Message(
        want.message, want.account, want.amount, want.charge, want.delivery, want.parts, want.msisdn,
        valid_us, want.carrier, state,
    )  # fmt: skip
    t.outbox[want.message] = Outbox(
        want.carrier,
        min(t.now + LEASE_SECONDS * SECOND if is_due else dispatch_us, valid_us),
        t.now if is_due else dispatch_us,
        t.now if is_due else None,
        incarnation if is_due else 0,
        lease_seconds=LEASE_SECONDS,
    )
    return ("accepted", want.message, None, owner.available, state.value, is_due)


def _pace(t: Tables, owner: Owner) -> int:
    if owner.interval_us == 0:
        return 0
    place = max(t.now, owner.next_dispatch_us or 0)
    owner.next_dispatch_us = place + owner.interval_us
    return place


def cancel(t: Tables, wants: list[tuple[int, UUID]]) -> list[tuple[Any, ...]]:
    """(outcome, state) for each position."""
    answers: list[tuple[Any, ...]] = []
    for account, message_id in wants:
        message = t.messages.get(message_id)
        if message is None or message.account != account:
            answers.append(("not_found", None))
            continue
        may_be_there = any(attempt.is_open for attempt in message.attempts.values())
        if message.knows("cancelled") and not may_be_there:
            t.finish(message, "cancelled", "release", "cancelled")
            answers.append(("cancelled", "CANCELLED"))
        elif message.state is S.CANCELLED:
            answers.append(("already_cancelled", "CANCELLED"))
        else:
            word = "already_final" if message.state.is_final else "already_sending"
            answers.append((word, message.state.value))
    if any(word == "cancelled" for word, _ in answers):
        t.give_back_places(account for account, _ in wants)
    return answers


def credit(t: Tables, account: int, kind: str, amount: int, reference: str) -> tuple[Any, ...]:
    """(posted, replayed or conflict,)."""
    owner = t.owners[account]
    answer = owner.credit(kind, amount, reference)
    if answer == "posted" and kind != "credit_limit":
        t.book(account, kind, None, abs(amount), None)
    return (answer,)
