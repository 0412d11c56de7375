"""What a message may not be: its own rows, its hold, its state and its attempts against each other.

Each is a sentence for an operator, and SQL over the columns that ledger/verify_messages.py joins; null is no
fault. What docs/guarantees.md allows is none: a plan that charges the submit is not charged for an answer
that was recorded after the message's end, and of what a recovery ended again there are no attempts.
"""

from collections.abc import Mapping
from typing import Final

# What the attempts of a message say together, as bits of `words`: one was answered as submitted; a receipt
# says that a carrier had it; a receipt says that it was delivered.
SUBMITTED: Final = 1
RECEIVED: Final = 2
DELIVERED: Final = 4
TAKEN: Final = SUBMITTED | RECEIVED
# Looked up for the few of which the bits do not say it. Of several parts each has its receipt.
PARTS_DELIVERED: Final = """
    (select count(distinct a.part_no) from tollwire.attempts a
     where a.message_id = j.id and a.message_id >= $1 and a.message_id < $2 and a.receipt = 'delivered')"""
IS_RECEIPTED: Final = f"""
    (words & {DELIVERED} > 0 and (parts_total = 1 or parts_total <= {PARTS_DELIVERED}))"""
SUBMITTED_BEFORE_THE_END: Final = """
    exists (select from tollwire.attempts a
            where a.message_id = j.id and a.message_id >= $1 and a.message_id < $2
              and a.outcome = 'submitted' and a.outcome_at < final_at)"""
ACCOUNT_CURRENCY: Final = "(select a.currency from ledger.accounts a where a.id = client_id)"
HAS_DEAD_LETTER: Final = """
    exists (select from tollwire.dead_letters d
            where d.message_id = j.id and d.message_id >= $1 and d.message_id < $2)"""

FAULTS: Final[Mapping[str, tuple[str, str]]] = {
    "message_without_lock": ("the message has no credit lock", "has_message and not has_lock"),
    "lock_without_message": ("there is no message of this lock", "has_lock and not has_message"),
    "message_without_state": ("the message has no state", "has_message and not has_state"),
    "state_without_message": ("there is no message of this state", "has_state and not has_message"),
    "outbox_without_message": (
        "there is no message of this outbox row",
        "has_outbox and not has_state and not has_message",
    ),
    "attempt_without_message": (
        "there is no message of these attempts",
        "has_attempt and not has_state and not has_message",
    ),
    "lock_of_another_account": (
        "the lock belongs to another account than the message",
        "account_id <> client_id",
    ),
    "price_differs": (
        "the lock holds another amount than the message's price",
        "amount_micros <> price_micros",
    ),
    "price_not_of_segments": (
        "the message's price cannot be that of its segments: it is not so many times one rate",
        "price_micros % segments <> 0",
    ),
    "currency_differs": (
        "the message is priced in another currency than its client's account",
        f"currency <> coalesce($5::text, {ACCOUNT_CURRENCY})",
    ),
    "final_unresolved": (
        "the message is final and its hold is still HELD",
        "is_final and lock_state = 'HELD'",
    ),
    "open_released": (
        "the message is not final and its hold is RELEASED",
        "not is_final and lock_state = 'RELEASED'",
    ),
    "open_captured": (
        "the message is not final, its plan charges the delivery, and its hold is CAPTURED",
        "not is_final and lock_state = 'CAPTURED' and charge <> 'submitted'",
    ),
    "delivered_released": (
        "the message is DELIVERED and its hold is RELEASED",
        "state = 'DELIVERED' and lock_state = 'RELEASED'",
    ),
    "undelivered_captured": (
        "the message was not delivered and its hold is CAPTURED against its plan",
        """is_final and state <> 'DELIVERED' and lock_state = 'CAPTURED' and charge <> 'submitted'
           and not (state = 'EXPIRED' and coalesce(reason, '') = 'no_receipt')""",
    ),
    "captured_unsubmitted": (
        "the hold is CAPTURED, and of no attempt a carrier's answer or receipt says that it took the message",
        f"""lock_state = 'CAPTURED' and words & {TAKEN} = 0
           and not coalesce(may_be_told and reason not in ('submitted', 'delivered'), false)""",
    ),
    # Of several parts one attempt may have submitted some; only who submits the rest is charged. A receipt
    # that ended the message proves the submit by itself; one that came after the end charges nothing.
    "submitted_uncharged": (
        "the message's plan charges the submit, a carrier took it in time, and its hold is not CAPTURED",
        f"""charge = 'submitted' and parts_total = 1 and case lock_state
               when 'HELD' then not is_final and (words & {TAKEN} > 0 or state = 'SENT')
               when 'RELEASED' then words & {SUBMITTED} > 0 and {SUBMITTED_BEFORE_THE_END}
                   or words & {RECEIVED} > 0 and reason in ('undelivered', 'expired_by_carrier') end""",
    ),
    "plan_differs": (
        "the hold was CAPTURED as by the other plan than the message's: its plan or the reason was changed",
        """lock_state = 'CAPTURED' and (charge = 'submitted' and reason = 'delivered'
               or charge = 'delivered' and reason = 'submitted')""",
    ),
    "delivered_unreceipted": (
        "the message is DELIVERED, and no receipt on its attempts says so of each part",
        f"""state = 'DELIVERED' and not {IS_RECEIPTED}
           and not coalesce(may_be_told and reason in ('restored', 'submitted'), false)""",
    ),
    "delivery_untold": (
        "a receipt says that the message was delivered, and neither its state nor its late_receipt does",
        f"state <> 'DELIVERED' and words & {DELIVERED} > 0 and parts_total = 1 and not late_receipt",
    ),
    "late_capture_untold": (
        "the hold was captured late and the message does not say so",
        "late_captured_at is not null and not late_receipt",
    ),
    "late_capture_unreceipted": (
        "the hold was captured late, and no receipt on its attempts says that the message was delivered",
        f"late_captured_at is not null and not {IS_RECEIPTED}",
    ),
    "sent_unsubmitted": (
        "the message is SENT, and no attempt of it was answered as submitted",
        f"state = 'SENT' and words & {SUBMITTED} = 0",
    ),
    "attempts_missing": (
        "the journal of attempts has not each attempt that the message counts, or has more",
        "last_attempt <> attempt_no or attempts < attempt_no",
    ),
    "dead_letter_missing": (
        "the message is FAILED_PERM and has no dead letter",
        f"state = 'FAILED_PERM' and not {HAS_DEAD_LETTER}",
    ),
    "outbox_missing": (
        "the message waits and has no outbox row",
        "state in ('SCHEDULED', 'QUEUED', 'SENDING', 'FAILED_TEMP', 'UNKNOWN') and not has_outbox",
    ),
    "outbox_left_over": (
        "the message needs nobody any more and has an outbox row",
        "(is_final or state = 'SENT') and has_outbox",
    ),
    "hold_overdue": (
        "the message is open long after its time",
        """case when is_final then null
                when state = 'SENT' then submitted_at + no_receipt_seconds * interval '1 second'
                when state = 'SENDING' then greatest(claim_deadline, valid_until)
                else valid_until end < now() - $4 * interval '1 second'""",
    ),
}
