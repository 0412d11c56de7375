"""The verdict on a run: counted from three independent logs, then compared with Tollwire's word. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.evidence import CHARGE_DELIVERED, Evidence, Message

# How a message may end unpaid although a carrier delivered it: the carrier's answer was lost, it knows no
# ids of ours and its receipts name none, so nobody can tell which message its receipt is for.
UNKNOWABLE: Final = frozenset({"outcome_unknown", "no_receipt"})
# No request of a client is in flight for longer: then it has its answer, or its sender gives it up.
ANSWER_SECONDS: Final = 10.0
SENDS_MAX: Final = 2  # at_least_once is sent once more, not for ever
LATE_TYPE: Final = "message.late_receipt"
# Ends after which a receipt may still say that it was delivered.
LATE_AFTER: Final = frozenset({"EXPIRED", "FAILED_PERM", "UNDELIVERED"})
# What is not yet in order while a receipt is on its way through.
LATE_KINDS: Final = frozenset({"late_receipt_told_wrongly", "released_although_delivered"})
STATUS_OF_TYPE: Final = {
    "message.delivered": "DELIVERED",
    "message.undelivered": "UNDELIVERED",
    "message.expired": "EXPIRED",
    "message.failed": "FAILED_PERM",
    "message.cancelled": "CANCELLED",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept, for one message (or key)."""

    kind: str
    subject: str
    sentence: str


@dataclass
class Verdict:
    """What was found. ``counts`` are facts of the run; ``violations`` must be empty."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def find(self, kind: str, subject: str, sentence: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(kind, subject, sentence))

    def document_losses(self, kinds: Collection[str]) -> None:
        """Count violations of these kinds as what they are where nothing else was promised."""
        lost = [violation for violation in self.violations if violation.kind in kinds]
        self.counts.update(f"documented {violation.kind}" for violation in lost)
        self.violations = [violation for violation in self.violations if violation.kind not in kinds]


# Every kind that can be found; the results list each with its count, also those that are 0.
KINDS: Final = (
    "accepted_and_lost", "two_messages_for_a_key", "word_changed", "refused_wrongly", "key_without_a_word",
    "sent_unaccepted", "at_most_once_sent_twice", "sent_twice_though_recognised", "sent_twice_unflagged",
    "sent_too_often", "cancelled_and_sent", "charged_without_delivery", "charged_twice",
    "released_although_delivered", "delivered_without_receipt", "charge_told_wrongly",
    "late_receipt_told_wrongly", "callback_missing",
    "callback_forged", "final_state_changed", "older_after_final", "status_differs", "hold_not_resolved_once",
    "message_nobody_knows", "books_broken", "deadlock", "not_settled",
    "request_failed",
)  # fmt: skip


def judge(evidence: Evidence) -> Verdict:
    """Count what the three logs say, without a word of Tollwire's."""
    verdict = Verdict()
    verdict.counts.update(
        keys=len(evidence.keys),
        accepted=len(evidence.messages),
        doubts=len(evidence.doubts),
        met_in_flight=sum(len(asked.met) for asked in evidence.keys.values()),
        sent_twice=sum(len(message.taken) > 1 for message in evidence.messages.values()),
        receipts_not_taken=evidence.unacked_receipts,
    )
    _judge_keys(verdict, evidence)
    for message in evidence.messages.values():
        _judge_message(verdict, message)
    for id_ in evidence.strangers_at_carriers:
        verdict.find("sent_unaccepted", id_, "reached a carrier, and no client was told that it is accepted")
    for id_ in evidence.strangers_told:
        verdict.find("sent_unaccepted", id_, "was told by a callback, and no client knows it")
    for told in evidence.bad_callbacks:
        verdict.find("callback_forged", told.webhook_id, f"did not verify: {told.bad}")
    return verdict


def _judge_keys(verdict: Verdict, evidence: Evidence) -> None:
    for key, asked in evidence.keys.items():
        if len(asked.ids) > 1:
            verdict.find("two_messages_for_a_key", key, f"was answered with {sorted(asked.ids)}")
        if asked.ids and asked.codes:
            verdict.find("word_changed", key, f"was accepted, and refused with {sorted(asked.codes)}")
        elif asked.codes:
            verdict.find("refused_wrongly", key, f"is in order, and was refused with {sorted(asked.codes)}")
        elif not asked.ids:
            verdict.find("key_without_a_word", key, "never got a definite word")
        if any(met.asked == 1 for met in asked.met):
            verdict.find("refused_wrongly", key, "was told that another is in flight, and there was none")
    for sha, ids in evidence.ids_by_text.items():
        if len(ids) > 1:
            verdict.find("two_messages_for_a_key", sha, f"is one text; the carriers saw it as {sorted(ids)}")


def _judge_message(verdict: Verdict, message: Message) -> None:
    for kind, sentence in (
        *_sends(message),
        *_ends(message),
        *_money(message),
        *_late(message),
    ):
        verdict.find(kind, message.id, sentence)
    if message.finals:
        verdict.counts[message.finals[0].status.lower()] += 1
    if message.finals and message.finals[0].error in UNKNOWABLE and message.taken:
        verdict.counts["ended_unknown_though_taken"] += 1
    if any(told.late_receipt for told in message.told):
        verdict.counts["late_receipts"] += 1
    if any(len(words) > 1 for words in message.receipt_words):
        verdict.counts["receipts_contradict"] += 1


def _sends(message: Message) -> Iterator[tuple[str, str]]:
    sends = len(message.taken)
    if sends > 1 and message.carrier.recognises:
        yield "sent_twice_though_recognised", f"was taken {sends} times by a carrier that knows our ids"
    if sends > 1 and message.asked.offer.delivery == "at_most_once":
        yield "at_most_once_sent_twice", f"was taken {sends} times"
    elif sends > SENDS_MAX:
        yield "sent_too_often", f"was taken {sends} times"
    elif sends > 1 and message.finals and not message.finals[-1].possible_duplicate:
        yield "sent_twice_unflagged", "was taken twice, and the client was not told"
    if sends and message.cancelled:
        yield "cancelled_and_sent", "was cancelled, and reached a carrier"


def _ends(message: Message) -> Iterator[tuple[str, str]]:
    finals = message.finals
    if not message.is_told:
        return
    if not finals and not message.taken:
        yield "accepted_and_lost", "no carrier saw it, and nobody was told of its end"
    elif not finals:
        yield "callback_missing", "its end was not told"
    if len({told.status for told in finals}) > 1:
        yield "final_state_changed", f"ended as {' and '.join(told.status for told in finals)}"
    if message.cancelled and finals and finals[0].status != "CANCELLED":
        yield "final_state_changed", f"was cancelled, and ended as {finals[0].status}"
    if any(STATUS_OF_TYPE[told.type] != told.status for told in finals):
        yield "final_state_changed", f"{finals[0].type} has the status {finals[0].status}"
    for final in finals[:1]:
        older = [
            told for told in message.told if told.sequence < final.sequence and told.sent_at > final.sent_at
        ]
        if older:
            yield "older_after_final", f"{older[0].type} was sent after {final.type}"


def _money(message: Message) -> Iterator[tuple[str, str]]:
    if not message.finals:
        return
    final = message.finals[0]
    is_late = any(told.late_receipt for told in message.told)
    charged = any(told.charged for told in message.told if told.sequence >= final.sequence)
    words = message.receipt_words
    if message.charge != CHARGE_DELIVERED:
        if charged and not message.taken:
            yield "charged_without_delivery", "no carrier took it, and it was charged"
        return
    was_delivered = any("delivered" in said for said in words)
    if charged and not was_delivered:
        yield "charged_without_delivery", "no receipt says that it was delivered, and it was charged"
    if final.status == "DELIVERED" and not was_delivered:
        yield "delivered_without_receipt", "was told as delivered, and no receipt says so"
    if charged != (final.status == "DELIVERED" or is_late):
        yield "charge_told_wrongly", f"ended as {final.status}, and charged is {charged}"
    # A carrier that says both of one submit contradicts itself: either word may stand.
    if _is_surely_delivered(message) and not charged:
        yield "released_although_delivered", f"was delivered, and ended as {final.status} ({final.error})"


def _late(message: Message) -> Iterator[tuple[str, str]]:
    """A delivery that is told after the end: once, by a callback of its own, and the status stays."""
    late = [told for told in message.told if told.type == LATE_TYPE]
    if not message.finals:
        return
    final = message.finals[0]
    if len({told.webhook_id for told in late}) > 1:
        yield "late_receipt_told_wrongly", f"was told to be late {len(late)} times, as different events"
    if any(told.status != final.status or told.status == "DELIVERED" for told in late):
        yield "late_receipt_told_wrongly", f"ended as {final.status}, and was late as {late[0].status}"
    if not all(told.late_receipt for told in late):
        yield "late_receipt_told_wrongly", "a callback of that kind does not say late_receipt"
    if late and not any("delivered" in said for said in message.receipt_words):
        yield "late_receipt_told_wrongly", "was told to be delivered late, and no receipt says so"
    if not late and final.status in LATE_AFTER and _is_surely_delivered(message):
        yield "late_receipt_told_wrongly", f"ended as {final.status}, was delivered, and nobody was told"


def _is_surely_delivered(message: Message) -> bool:
    """True when a receipt that can be told from others says so, and no other of that submit contradicts."""
    error = message.finals[0].error
    is_knowable = message.carrier.recognises or message.carrier.echoes or error not in UNKNOWABLE
    return is_knowable and any(said == {"delivered"} for said in message.receipt_words)


def is_all_told(evidence: Evidence) -> bool:
    """True when every end has been told, and every delivery that came after one."""
    return all(
        message.finals and not any(kind in LATE_KINDS for kind, _ in (*_money(message), *_late(message)))
        for message in evidence.messages.values()
        if message.is_told
    )


@dataclass(frozen=True, slots=True)
class OwnWord:
    """What Tollwire itself says after the run.

    Attributes:
        statuses: the status of every message that it lists, by id.
        entries: the kinds of the journal's entries of each message.
        verify_findings: what `tollwire ledger verify --full` finds; empty when the books are whole.
        deadlocks: how many PostgreSQL has logged.
        open_rows: what still waits, by table: outbox, holds, receipts, callbacks.
    """

    statuses: Mapping[str, str]
    entries: Mapping[str, Sequence[str]]
    verify_findings: str
    deadlocks: int
    open_rows: Mapping[str, int]


def spare_clients(verdict: Verdict, evidence: Evidence) -> None:
    """Where no client may notice anything, every request that got no definite word is a violation.

    One that met its twin in flight is in order if it was then told what the twin was told (that it is the
    same message is judged for every key), and did not meet it for longer than anybody waits for an answer.
    """
    for doubt in evidence.doubts:
        verdict.find("request_failed", doubt.key, f"got no definite word: {doubt.why}")
    for key, asked in evidence.keys.items():
        if not asked.met:
            continue
        met_seconds = asked.met[-1].at - asked.met[0].at
        if asked.last_word_at < asked.met[-1].at or met_seconds > ANSWER_SECONDS:
            verdict.find("request_failed", key, f"met another in flight for {met_seconds:.0f} s")


ENDS: Final = frozenset({"capture", "release"})


def compare(verdict: Verdict, evidence: Evidence, word: OwnWord) -> None:
    """Compare what was counted with what Tollwire says; what differs is a violation."""
    for message in evidence.messages.values():
        for kind, sentence in _differences(message, word):
            verdict.find(kind, message.id, sentence)
    for id_ in word.statuses.keys() - evidence.messages.keys():
        verdict.find(
            "message_nobody_knows", id_, "Tollwire has it, and no client was told that it is accepted"
        )
    if word.verify_findings:
        verdict.find("books_broken", "ledger verify", word.verify_findings)
    if word.deadlocks:
        verdict.find("deadlock", "PostgreSQL", f"logged {word.deadlocks} deadlocks")
    for name, count in word.open_rows.items():
        if count:
            verdict.find("not_settled", name, f"{count} still wait")


def _differences(message: Message, word: OwnWord) -> Iterator[tuple[str, str]]:
    status = word.statuses.get(message.id)
    if status is None:
        yield "accepted_and_lost", "Tollwire does not know it"
        return
    if status not in STATUS_OF_TYPE.values():
        yield "not_settled", f"is {status}"
        return
    if message.finals and message.finals[0].status != status:
        yield "status_differs", f"was told as {message.finals[0].status}, and is {status}"
    kinds = Counter(word.entries.get(message.id, ()))
    ends = sum(kinds[kind] for kind in ENDS)
    if kinds["hold"] != 1 or ends != 1:
        yield "hold_not_resolved_once", f"has the entries {dict(kinds)}"
    if kinds["capture"] + kinds["late_capture"] > 1:
        yield "charged_twice", f"has the entries {dict(kinds)}"
    charged = kinds["capture"] + kinds["late_capture"] > 0
    told = any(one.charged for one in message.told)
    if message.finals and charged != told:
        yield "charge_told_wrongly", f"the client was told charged={told}; the journal says {dict(kinds)}"
