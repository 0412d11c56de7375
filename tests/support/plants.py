"""Corruptions of the books, each with the checks that must name it.

Written as SQL over the names of tests/support/scene.py; run as superuser with the triggers off.
"""

from dataclasses import dataclass

LAST = "(select max(version) from ledger.entries where account_id = {account})"
OF = "account_id = {account} and version"


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault, its SQL, and the names of the checks that find it (others may find it too)."""

    name: str
    sql: str
    found_by: frozenset[str]


def _plant(name: str, found_by: str, sql: str) -> Plant:
    return Plant(name, sql.replace("LAST", LAST).replace("OF", OF), frozenset(found_by.split()))


def _account(change: str) -> str:
    return f"update ledger.accounts set {change} where id = {{account}}"


def _lock(change: str, message: str) -> str:
    return f"update ledger.credit_locks set {change} where message_id = '{{{message}}}'"


def _state(change: str, message: str) -> str:
    return f"update tollwire.message_states set {change} where message_id = '{{{message}}}'"


def _attempts(change: str, message: str) -> str:
    return f"update tollwire.attempts set {change} where message_id = '{{{message}}}'"


# By the very function that does it, with an entry that fits.
CAPTURED_UNSENT = (
    "select * from ledger.settle_holds_v1(array['{waiting}'::uuid], '{{capture}}', '{{submitted}}')"
)
ENDED_UNSENT = (
    _state("state = 'EXPIRED', final_at = now(), error_code = 'validity_ended'", "waiting")
    + "; delete from tollwire.outbox where message_id = '{waiting}'"
)
# An entry that the chain accepts and that nothing justifies.
SECOND_CAPTURE = """
with a as (select * from ledger.accounts where id = {account}),
     l as (select * from ledger.entries where message_id = '{delivered}' and kind = 'capture'),
     e as (insert into ledger.entries
           select a.id, a.version + 1, (now() at time zone 'UTC')::date, a.last_entry_at, 'late_capture',
                  l.message_id, a.id, l.credit_account, l.amount_micros, a.posted_micros - l.amount_micros,
                  a.held_micros, null, null, ledger.entry_hash_v1(a.chain_head, a.id, a.version + 1,
                      (extract(epoch from a.last_entry_at) * 1000000)::bigint, 'late_capture', l.message_id,
                      a.id, l.credit_account, l.amount_micros, a.posted_micros - l.amount_micros,
                      a.held_micros, null, null)
           from a, l returning *)
update ledger.accounts t
set posted_micros = e.posted_after_micros, version = e.version, chain_head = e.hash
from e where t.id = e.account_id
"""
BELOW_ZERO = """
alter table ledger.accounts drop constraint accounts_never_below_zero;
update ledger.accounts set posted_micros = -5000 where id = {account}
"""
FOREIGN_ENTRY = """
insert into ledger.entries
select h.id, 1, e.day, e.at, 'top_up', null, e.debit_account, h.id, 1, 1, 0, null, null, e.hash
from ledger.entries e, ledger.accounts h where e.account_id = {account} and e.version = 1 and h.kind = 'holds'
"""
OUTBOX = """
insert into tollwire.outbox (message_id, lane, carrier_id, due_at, dispatch_at)
values ('{%s}', 'bulk', 1, now(), now())
"""

PLANTS = (
    _plant(
        "posted", "account_differs balance_differs system_sums", _account("posted_micros = posted_micros + 1")
    ),
    _plant("held", "held_differs account_differs holds_sum", _account("held_micros = held_micros + 1")),
    _plant("open holds", "open_holds_differ", _account("open_holds = open_holds + 1")),
    _plant("overdrawn", "overdrawn_unjustified", _account("overdrawn_micros = 1")),
    _plant("below zero", "below_zero", BELOW_ZERO),
    _plant("version", "version_lost", _account("version = version + 1")),
    _plant("chain head", "account_differs", _account("chain_head = sha256('x')")),
    _plant("credit limit", "credit_limit_differs", _account("credit_limit_micros = credit_limit_micros + 1")),
    _plant(
        "amount",
        "chain_broken running_balance",
        "update ledger.entries set amount_micros = amount_micros + 1 where OF = 3",
    ),
    _plant(
        "balance after",
        "chain_broken running_balance",
        "update ledger.entries set posted_after_micros = posted_after_micros + 1 where OF = 3",
    ),
    _plant("hash", "chain_broken", "update ledger.entries set hash = sha256('x') where OF = 3"),
    _plant("reason", "chain_broken", "update ledger.entries set reason = 'gift' where OF = LAST"),
    _plant(
        "entry gone", "version_gap chain_broken lock_without_entry", "delete from ledger.entries where OF = 3"
    ),
    _plant("last entry gone", "version_lost", "delete from ledger.entries where OF = LAST"),
    _plant(
        "other side",
        "entry_shape chain_broken debits_and_credits",
        "update ledger.entries set credit_account = {planned} where OF = 3",
    ),
    _plant(
        "time",
        "time_backwards chain_broken",
        "update ledger.entries set at = at - interval '1 second', day = ((at - interval '1 second')"
        " at time zone 'UTC')::date where OF = 3",
    ),
    _plant("foreign entry", "entry_shape", FOREIGN_ENTRY),
    _plant("captured twice", "late_capture_differs second_late_capture", SECOND_CAPTURE),
    _plant(
        "lock gone",
        "message_without_lock entry_without_lock",
        "delete from ledger.credit_locks where message_id = '{delivered}'",
    ),
    _plant(
        "lock's amount", "price_differs lock_differs", _lock("amount_micros = amount_micros + 1", "delivered")
    ),
    _plant("lock's account", "lock_of_another_account lock_differs", _lock("account_id = {planned}", "sent")),
    _plant(
        "lock and message of nobody",
        "lock_without_account lock_differs",
        _lock("account_id = 999999", "sent")
        + "; update tollwire.messages set client_id = 999999 where id = '{sent}'",
    ),
    _plant(
        "credit for a message",
        "entry_shape chain_broken",
        "update ledger.entries set message_id = '{delivered}' where OF = 1",
    ),
    _plant("lock's version", "second_hold", _lock("hold_version = hold_version + 1", "delivered")),
    _plant(
        "released in silence",
        "open_released held_differs resolution_missing",
        _lock("state = 'RELEASED', resolved_at = now()", "sent"),
    ),
    _plant(
        "held again",
        "final_unresolved held_differs",
        _lock("state = 'HELD', resolved_at = null", "delivered"),
    ),
    _plant(
        "captured against the plan",
        "open_captured",
        _lock("state = 'CAPTURED', resolved_at = now()", "queued"),
    ),
    _plant(
        "released though delivered",
        "delivered_released resolution_differs",
        _lock("state = 'RELEASED'", "delivered"),
    ),
    _plant(
        "late capture forgotten",
        "late_capture_differs second_late_capture",
        _lock("late_captured_at = null", "late"),
    ),
    _plant(
        "late capture invented",
        "late_capture_missing late_capture_untold",
        _lock("late_captured_at = now()", "undelivered"),
    ),
    _plant(
        "message gone",
        "lock_without_message state_without_message",
        "delete from tollwire.messages where id = '{sent}'",
    ),
    _plant(
        "state gone",
        "message_without_state",
        "delete from tollwire.message_states where message_id = '{sent}'",
    ),
    _plant(
        "delivered by hand",
        "final_unresolved outbox_left_over",
        _state("state = 'DELIVERED', final_at = now()", "queued"),
    ),
    _plant("undelivered by hand", "undelivered_captured", _state("state = 'UNDELIVERED'", "delivered")),
    _plant(
        "no receipt for days", "hold_overdue", _state("submitted_at = now() - interval '10 days'", "sent")
    ),
    _plant(
        "never expired",
        "hold_overdue",
        "update tollwire.messages set valid_until = now() - interval '1 day' where id = '{queued}'",
    ),
    _plant("charged and not sent", "captured_unsubmitted", CAPTURED_UNSENT),
    _plant("charged, not sent and expired", "captured_unsubmitted", CAPTURED_UNSENT + "; " + ENDED_UNSENT),
    _plant(
        "sent and not charged", "submitted_uncharged", _lock("state = 'HELD', resolved_at = null", "charged")
    ),
    _plant(
        "taken and given back", "submitted_uncharged resolution_differs", _lock("state = 'RELEASED'", "lost")
    ),
    _plant(
        "answered and given back",
        "submitted_uncharged",
        _attempts("outcome_at = outcome_at - interval '1 day'", "unpaid"),
    ),
    _plant(
        "plan changed",
        "plan_differs",
        "update tollwire.messages set charge = 'submitted' where id = '{delivered}'",
    ),
    _plant(
        "plan changed, of the lost",
        "plan_differs undelivered_captured",
        "update tollwire.messages set charge = 'delivered' where id = '{lost}'",
    ),
    _plant("hold's time", "hold_time_differs", _lock("held_at = held_at - interval '3 days'", "sent")),
    _plant(
        "end's time",
        "resolution_time_differs",
        _lock("resolved_at = resolved_at + interval '3 days'", "delivered"),
    ),
    _plant(
        "late capture's time",
        "late_capture_differs",
        _lock("late_captured_at = late_captured_at + interval '3 days'", "late"),
    ),
    _plant("end's reason", "reason_differs", _lock("reason = 'client_suspended'", "cancelled")),
    _plant(
        "charged as by the policy",
        "reason_differs",
        _lock("reason = 'no_receipt'", "delivered") + "; " + _state("state = 'EXPIRED'", "delivered"),
    ),
    _plant(
        "currency", "currency_differs", "update tollwire.messages set currency = 'USD' where id = '{sent}'"
    ),
    _plant(
        "segments", "price_not_of_segments", "update tollwire.messages set segments = 3 where id = '{sent}'"
    ),
    _plant(
        "attempts gone",
        "attempts_missing delivered_unreceipted captured_unsubmitted",
        "delete from tollwire.attempts where message_id = '{delivered}'",
    ),
    _plant(
        "one attempt gone",
        "attempts_missing",
        "delete from tollwire.attempts where message_id = '{failed}' and attempt_no = 1",
    ),
    _plant(
        "attempts of nothing",
        "attempt_without_message",
        _attempts("message_id = '{nobody}'", "delivered"),
    ),
    _plant("receipt gone", "delivered_unreceipted", _attempts("receipt = null", "delivered")),
    _plant("receipt changed", "delivered_unreceipted", _attempts("receipt = 'undelivered'", "delivered")),
    _plant("delivery kept back", "delivery_untold", _attempts("receipt = 'delivered'", "undelivered")),
    _plant("late receipt gone", "late_capture_unreceipted", _attempts("receipt = null", "late")),
    _plant("sent by hand", "sent_unsubmitted", _state("state = 'SENT', submitted_at = now()", "queued")),
    _plant(
        "dead letter gone",
        "dead_letter_missing",
        "delete from tollwire.dead_letters where message_id = '{failed}'",
    ),
    _plant("outbox row gone", "outbox_missing", "delete from tollwire.outbox where message_id = '{queued}'"),
    _plant("outbox row left", "outbox_left_over", OUTBOX % "delivered"),
    _plant("outbox row of nothing", "outbox_without_message", OUTBOX % "nobody"),
    _plant(
        "operation gone",
        "entry_without_operation",
        "delete from ledger.operations where account_id = {account} and reference = 'correction'",
    ),
    _plant(
        "operation changed",
        "operation_without_entry entry_without_operation",
        "update ledger.operations set amount_micros = 5 where account_id = {account}",
    ),
    _plant(
        "limit asked for",
        "operation_differs",
        "update ledger.operations set amount_micros = 1 where kind = 'credit_limit'",
    ),
    _plant("checkpoint", "seal_broken checkpoint_differs", "update ledger.checkpoints set posted_micros = 1"),
    _plant("checkpoint gone", "seal_broken", "delete from ledger.checkpoints"),
    _plant("seal's sums", "seal_forged seal_differs", "update ledger.seals set amounts = '{{}}'"),
    _plant("seal's signature", "seal_forged", "update ledger.seals set signature = sha256('x')"),
    _plant(
        "sealed entry gone",
        "seal_differs version_gap",
        "delete from ledger.entries where account_id = {past} and version = 2",
    ),
    _plant("trigger off", "guard_missing", "alter table ledger.entries disable trigger entries_append_only"),
)
