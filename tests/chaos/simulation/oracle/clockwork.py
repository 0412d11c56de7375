"""The oracle of clockwork_v1.sql: what to do when somebody must look at an outbox row (RULES 16 to 22)."""

from typing import Any
from uuid import UUID

from tests.chaos.simulation.oracle.tables import Message, Outbox, S, Tables
from tests.chaos.simulation.wire import HOUR, LEASE_SECONDS, NO_RECEIPT_SECONDS, SECOND, START_MS

MARGIN_US = 5 * SECOND
CLOCKS_DIFFER_US = 5 * SECOND
LEASE_MAX_SECONDS = 3_600


def look_due(t: Tables) -> dict[str, list[UUID]]:
    """The due rows by the work they need."""
    found: dict[str, list[UUID]] = {}
    for message_id, row in sorted(t.outbox.items()):
        if row.due_us <= t.now:
            found.setdefault(_work(t, t.messages[message_id], row), []).append(message_id)
    return found


def _work(t: Tables, message: Message, row: Outbox) -> str:
    if message.final_us is not None or message.state is S.SENT:
        return "forget"
    if message.state is S.UNKNOWN:
        return "expire"
    if message.state is S.SENDING:
        deadline_us = message.claim_deadline_us
        return "recover" if deadline_us is not None and deadline_us + MARGIN_US <= t.now else "wait"
    if message.valid_us <= t.now or t.owners[message.account].suspended:
        return "expire"
    if row.dispatch_us > t.now:
        return "wait"
    return "start" if message.state is S.SCHEDULED else "dispatch"


def tidy(t: Tables, wait: list[UUID], forget: list[UUID]) -> None:
    """Put off or remove rows that need nothing now."""
    for message_id in wait:
        row, message = t.outbox.get(message_id), t.messages[message_id]
        if row is None:
            continue
        then = min(row.dispatch_us, message.valid_us)
        if message.state is S.SENDING:
            then = (message.claim_deadline_us or 0) + MARGIN_US
        row.due_us = max(t.now + SECOND, then)
    for message_id in forget:
        message = t.messages[message_id]
        if message.final_us is not None or message.state is S.SENT:
            t.outbox.pop(message_id, None)


def start(t: Tables, ids: list[UUID]) -> list[tuple[Any, ...]]:
    """Queue scheduled messages whose time has come, in their clients' pace."""
    due = [
        t.messages[i] for i in set(ids)
        if i in t.outbox and t.outbox[i].dispatch_us <= t.now and t.messages[i].state is S.SCHEDULED
    ]  # fmt: skip
    for message in sorted(due, key=lambda m: (t.outbox[m.id].dispatch_us, m.id)):
        owner, row = t.owners[message.account], t.outbox[message.id]
        place = t.now if message.is_test else max(t.now, owner.next_dispatch_us or 0)
        if owner.interval_us and not message.is_test:
            owner.next_dispatch_us = place + owner.interval_us
        row.dispatch_us = place
        row.due_us = min(message.valid_us, place)
        message.state = S.QUEUED
        message.sequence += 1
    return sorted((m.id, m.state.value) for m in due)


def dispatch(t: Tables, ids: list[UUID], oldest_us: int | None, incarnation: int) -> list[tuple[Any, ...]]:
    """(message, dispatch number, carrier) of what has to be published."""
    leased = []
    for message_id in ids:
        row, message = t.outbox.get(message_id), t.messages[message_id]
        is_due = row is not None and row.due_us <= t.now and row.dispatch_us <= t.now
        if row is None or not is_due or message.state not in (S.QUEUED, S.FAILED_TEMP):
            continue
        if message.valid_us <= t.now:
            continue
        is_in_stream = _is_in_stream(row, oldest_us, incarnation)
        if row.leased_us is not None:
            row.lease_seconds = min(row.lease_seconds * 2, LEASE_MAX_SECONDS)
            row.dispatch_no += not is_in_stream
        seconds = row.lease_seconds if is_in_stream else LEASE_SECONDS
        row.due_us = min(message.valid_us, t.now + seconds * SECOND)
        row.incarnation = incarnation
        if not is_in_stream:
            row.leased_us = t.now
            leased.append((message_id, row.dispatch_no, row.carrier))
    return sorted(leased)


def _is_in_stream(row: Outbox, oldest_us: int | None, incarnation: int) -> bool:
    return (
        row.incarnation == incarnation
        and row.leased_us is not None
        and oldest_us is not None
        and row.leased_us >= oldest_us - CLOCKS_DIFFER_US
    )


def return_leases(t: Tables, work: list[tuple[UUID, int]]) -> None:
    """What could not be published is due at once."""
    for message_id, number in work:
        row = t.outbox.get(message_id)
        if row is not None and row.dispatch_no == number:
            row.due_us = min(row.due_us, t.now)
            row.incarnation, row.lease_seconds = 0, 60


def expire_due(t: Tables, ids: list[UUID]) -> list[tuple[Any, ...]]:
    """End what waited too long."""
    ended = []
    for message in sorted((t.messages[i] for i in set(ids)), key=lambda m: m.id):
        row = t.outbox.get(message.id)
        if row is None:
            continue
        is_due, is_over = row.due_us <= t.now, message.valid_us <= t.now
        is_suspended = t.owners[message.account].suspended
        is_ended = is_suspended or (is_over and is_due)
        kind = "release" if message.lock == "HELD" else None
        if message.state is S.UNKNOWN and is_due:
            t.finish(message, "outcome_wait_ended", kind, "outcome_unknown")
        elif message.state in (S.SCHEDULED, S.QUEUED, S.FAILED_TEMP) and is_ended:
            event, error = ("validity_ended",) * 2 if is_over else ("suspended", "client_suspended")
            t.finish(message, event, kind, error)
        else:
            continue
        ended.append((message.id, message.state.value))
    t.give_back_places(t.messages[message_id].account for message_id, _ in ended)
    return ended


def held_long(t: Tables) -> list[UUID]:
    """Holds that the walk finds, and those that are watched and due."""
    floor = START_MS + (t.now - NO_RECEIPT_SECONDS * SECOND) // 1000
    walked = {
        m.id for m in t.messages.values()
        if m.id.int >> 80 < floor and (m.lock == "HELD" or (m.lock == "CAPTURED" and m.final_us is None))
    }  # fmt: skip
    return sorted(walked | {i for i, due in t.watch.items() if due <= t.now})


def expire_holds(t: Tables, ids: list[UUID]) -> list[tuple[Any, ...]]:
    """End the holds of what was sent and never heard of; watch the others."""
    ended = []
    wait_us = NO_RECEIPT_SECONDS * SECOND
    for message in sorted((t.messages[i] for i in set(ids)), key=lambda m: m.id):
        is_sent = message.state is S.SENT and message.submitted_us is not None
        ends_us = (message.submitted_us or 0) + wait_us
        t.watch.pop(message.id, None)
        if is_sent and ends_us <= t.now:
            policy = t.carriers[message.carrier].no_receipt_policy
            t.finish(message, "receipt_wait_ended", policy if message.lock == "HELD" else None, "no_receipt")
            ended.append((message.id, message.state.value))
        elif message.final_us is None:
            t.watch[message.id] = ends_us if is_sent else t.now + min(wait_us, HOUR)
    return ended
