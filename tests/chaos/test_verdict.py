"""The verdict finds every kind of broken promise: each is put into a run's logs by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from simulator.memory import Due, LogLine
from simulator.wire import Receipt
from tests.chaos.evidence import CarrierLog, gather
from tests.chaos.instance import CARRIERS
from tests.chaos.logs import Cancelled, ClientLine, Doubt, End, Met, Offer, Told, Word
from tests.chaos.verdict import KINDS, OwnWord, Verdict, compare, judge, spare_clients

KNOWS, BLIND = CARRIERS
NUMBERS = {"knows": "+4915120000001", "blind": "+447400100001"}


def receipt(number: int, state: str, reference: str) -> Due:
    return Due(1.0, number, Receipt(reference=reference, state=state, done_at="", to="", part=1))


def taken(id_: str, number: int, *states: str, text: str = "") -> LogLine:
    """A submit that the carrier took, and the receipts that it then owed."""
    reference = f"ref-{number}"
    return LogLine(
        n=number, at=1.0, id=id_, part=1, attempt=1, to="", sender="", segments=1, chars=1,
        sha256=text or f"text of {id_}", outcome="taken", count=1, reference=reference,
        receipts=[receipt(number * 10 + n, state, reference) for n, state in enumerate(states)],
    )  # fmt: skip


def final(id_: str, word: str = "delivered", **changes: object) -> Told:
    """The callback of an end."""
    statuses = {"failed": "FAILED_PERM"}
    told = Told(
        at=2.0, account="acme", webhook_id=f"msg_{id_}_{word}", sent_at=100, type=f"message.{word}", id=id_,
        status=statuses.get(word, word.upper()), sequence=3, charged=word == "delivered",
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


@dataclass
class Logs:
    """The logs of a run with one message a carrier, both delivered; tests spoil them."""

    client: list[ClientLine] = field(default_factory=list)
    knows: list[LogLine] = field(default_factory=list)
    blind: list[LogLine] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)
    entries: dict[str, list[str]] = field(default_factory=dict)
    findings: str = ""
    deadlocks: int = 0
    open_rows: dict[str, int] = field(default_factory=dict)
    charges: dict[str, str] = field(default_factory=lambda: {"acme": "delivered", "dime": "submitted"})

    def __post_init__(self) -> None:
        for number, (name, delivery) in enumerate((("knows", "at_most_once"), ("blind", "at_least_once")), 1):
            key, id_ = f"key-{name}", f"id-{name}"
            self.client += [
                Offer(0.5, key, "acme", NUMBERS[name], delivery, f"text of {id_}"),
                Doubt(0.6, key, "503 busy"),
                Word(0.7, key, id=id_),
            ]
            (self.knows if name == "knows" else self.blind).append(taken(id_, number, "delivered"))
            self.told.append(final(id_))
            self.statuses[id_] = "DELIVERED"
            self.entries[id_] = ["hold", "capture"]
        self.client.append(End(3.0, 0))

    def replace_told(self, id_: str, *told: Told) -> None:
        self.told = [one for one in self.told if one.id != id_] + list(told)

    def end_as(self, id_: str, word: str, **changes: object) -> None:
        """The message came to another end, and everybody says so."""
        told = final(id_, word, **changes)
        self.replace_told(id_, told)
        self.statuses[id_] = told.status
        self.entries[id_] = ["hold", "capture" if told.charged else "release"]

    def judged(self) -> Verdict:
        logs = [CarrierLog(KNOWS, self.knows), CarrierLog(BLIND, self.blind)]
        evidence = gather(self.client, logs, self.told, self.charges)
        verdict = judge(evidence)
        own = OwnWord(self.statuses, self.entries, self.findings, self.deadlocks, self.open_rows)
        compare(verdict, evidence, own)
        return verdict

    @property
    def found(self) -> set[str]:
        return {violation.kind for violation in self.judged().violations}


def test_a_good_run_has_no_violation_and_counts_what_happened():
    verdict = Logs().judged()
    assert verdict.violations == []
    assert (verdict.counts["accepted"], verdict.counts["delivered"], verdict.counts["doubts"]) == (2, 2, 2)


Spoil = Callable[[Logs], object]


def lose_a_message(logs: Logs) -> None:
    logs.knows.clear()
    logs.replace_told("id-knows")


def forget_a_message(logs: Logs) -> None:
    del logs.statuses["id-knows"]


def lose_a_callback(logs: Logs) -> None:
    logs.replace_told("id-knows")


def answer_a_key_with_two_ids(logs: Logs) -> None:
    logs.client.append(Word(0.9, "key-knows", id="id-other"))
    logs.statuses["id-other"] = "DELIVERED"


def carry_a_text_under_two_ids(logs: Logs) -> None:
    logs.knows.append(taken("id-other", 9, text="text of id-knows"))


def refuse_what_was_accepted(logs: Logs) -> None:
    logs.client.append(Word(0.9, "key-knows", code="unauthorized"))


def refuse_what_is_in_order(logs: Logs) -> None:
    offer = Offer(0.5, "key-new", "acme", NUMBERS["knows"], "at_most_once", "another")
    logs.client += [offer, Word(0.9, "key-new", code="unauthorized")]


def leave_a_key_open(logs: Logs) -> None:
    logs.client.append(Offer(0.5, "key-new", "acme", NUMBERS["knows"], "at_most_once", "another"))


def send_what_nobody_accepted(logs: Logs) -> None:
    logs.blind.append(taken("id-stranger", 9, "delivered"))


def tell_of_what_nobody_accepted(logs: Logs) -> None:
    logs.told.append(final("id-stranger"))


def send_twice_to_the_carrier_that_knows(logs: Logs) -> None:
    logs.knows.append(taken("id-knows", 9))


def send_at_most_once_twice(logs: Logs) -> None:
    logs.client[3] = msgspec.structs.replace(logs.client[3], delivery="at_most_once")
    logs.blind.append(taken("id-blind", 9))


def send_twice_in_silence(logs: Logs) -> None:
    logs.blind.append(taken("id-blind", 9))


def send_three_times(logs: Logs) -> None:
    logs.replace_told("id-blind", final("id-blind", possible_duplicate=True))
    logs.blind += [taken("id-blind", 8), taken("id-blind", 9)]


def send_what_was_cancelled(logs: Logs) -> None:
    logs.end_as("id-knows", "cancelled")
    logs.client.append(Cancelled(0.9, "id-knows"))


def deliver_what_was_cancelled(logs: Logs) -> None:
    logs.client.append(Cancelled(0.9, "id-knows"))


def charge_without_delivery(logs: Logs) -> None:
    logs.knows[0].receipts = [receipt(1, "undelivered", "ref-1")]


def charge_by_a_receipt_for_another_reference(logs: Logs) -> None:
    logs.knows[0].receipts = [receipt(1, "delivered", "ref-of-another")]


def charge_a_submit_that_was_not_taken(logs: Logs) -> None:
    logs.charges["acme"] = "submitted"
    logs.knows.clear()


def release_although_delivered(logs: Logs) -> None:
    logs.end_as("id-knows", "undelivered")


def release_although_the_carrier_echoed_our_id(logs: Logs) -> None:
    logs.end_as("id-knows", "failed", error="outcome_unknown")


def tell_a_charge_that_was_none(logs: Logs) -> None:
    logs.entries["id-knows"] = ["hold", "release"]


def tell_a_failure_as_charged(logs: Logs) -> None:
    logs.end_as("id-knows", "undelivered", charged=True)
    logs.knows[0].receipts = [receipt(1, "undelivered", "ref-1")]


def late(id_: str, **changes: object) -> Told:
    """The callback of a receipt that came after the end."""
    told = final(id_, "late_receipt", status="EXPIRED", sequence=4, charged=True, late_receipt=True)
    return msgspec.structs.replace(told, **changes)


def deliver_late(logs: Logs, *told: Told) -> None:
    """The message expired without a receipt; then it came, and these callbacks told so."""
    logs.replace_told("id-knows", final("id-knows", "expired", error="no_receipt"), *told)
    logs.statuses["id-knows"] = "EXPIRED"
    logs.entries["id-knows"] = ["hold", "release", "late_capture"]


def tell_a_late_receipt_twice(logs: Logs) -> None:
    deliver_late(logs, late("id-knows"), late("id-knows", webhook_id="msg_another", sequence=5))


def change_the_status_by_a_late_receipt(logs: Logs) -> None:
    deliver_late(logs, late("id-knows", status="DELIVERED"))


def tell_a_late_receipt_as_if_it_were_none(logs: Logs) -> None:
    deliver_late(logs, late("id-knows", late_receipt=False))


def tell_a_late_receipt_that_never_came(logs: Logs) -> None:
    deliver_late(logs, late("id-knows"))
    logs.knows[0].receipts = []


def pass_over_a_late_receipt_of_a_paid_submit(logs: Logs) -> None:
    logs.charges["acme"] = "submitted"
    logs.end_as("id-knows", "expired", charged=True, error="no_receipt")


def meet_a_twin_that_nobody_sent(logs: Logs) -> None:
    logs.client.append(Met(0.65, "key-knows", asked=1))


def forge_a_callback(logs: Logs) -> None:
    logs.told.append(Told(2.0, "acme", "msg_x", 0, answered=401, bad="no matching signature"))


def change_the_final_state(logs: Logs) -> None:
    logs.told.append(final("id-knows", "undelivered", sequence=4))


def tell_an_older_state_after_the_final_one(logs: Logs) -> None:
    logs.told.append(final("id-knows", "sent", sequence=2, sent_at=105))


def tell_another_status_than_there_is(logs: Logs) -> None:
    logs.statuses["id-knows"] = "EXPIRED"


def leave_a_message_on_its_way(logs: Logs) -> None:
    logs.statuses["id-knows"] = "SENT"


def hold_twice(logs: Logs) -> None:
    logs.entries["id-knows"] = ["hold", "hold", "capture"]


def never_end_a_hold(logs: Logs) -> None:
    logs.entries["id-knows"] = ["hold"]


def end_a_hold_twice(logs: Logs) -> None:
    logs.entries["id-knows"] = ["hold", "capture", "release"]


def charge_twice(logs: Logs) -> None:
    logs.entries["id-knows"] = ["hold", "capture", "late_capture"]


def keep_a_message_that_nobody_knows(logs: Logs) -> None:
    logs.statuses["id-stranger"] = "DELIVERED"


def break_the_books(logs: Logs) -> None:
    logs.findings = "chain_broken account 1"


def deadlock(logs: Logs) -> None:
    logs.deadlocks = 1


def leave_work(logs: Logs) -> None:
    logs.open_rows["outbox"] = 1


SPOILED: list[tuple[str, Spoil]] = [
    ("accepted_and_lost", lose_a_message),
    ("accepted_and_lost", forget_a_message),
    ("callback_missing", lose_a_callback),
    ("two_messages_for_a_key", answer_a_key_with_two_ids),
    ("two_messages_for_a_key", carry_a_text_under_two_ids),
    ("word_changed", refuse_what_was_accepted),
    ("refused_wrongly", refuse_what_is_in_order),
    ("refused_wrongly", meet_a_twin_that_nobody_sent),
    ("key_without_a_word", leave_a_key_open),
    ("sent_unaccepted", send_what_nobody_accepted),
    ("sent_unaccepted", tell_of_what_nobody_accepted),
    ("sent_twice_though_recognised", send_twice_to_the_carrier_that_knows),
    ("at_most_once_sent_twice", send_at_most_once_twice),
    ("sent_twice_unflagged", send_twice_in_silence),
    ("sent_too_often", send_three_times),
    ("cancelled_and_sent", send_what_was_cancelled),
    ("final_state_changed", deliver_what_was_cancelled),
    ("charged_without_delivery", charge_without_delivery),
    ("delivered_without_receipt", charge_by_a_receipt_for_another_reference),
    ("charged_without_delivery", charge_a_submit_that_was_not_taken),
    ("released_although_delivered", release_although_delivered),
    ("released_although_delivered", release_although_the_carrier_echoed_our_id),
    ("charge_told_wrongly", tell_a_charge_that_was_none),
    ("charge_told_wrongly", tell_a_failure_as_charged),
    ("late_receipt_told_wrongly", tell_a_late_receipt_twice),
    ("late_receipt_told_wrongly", change_the_status_by_a_late_receipt),
    ("late_receipt_told_wrongly", tell_a_late_receipt_as_if_it_were_none),
    ("late_receipt_told_wrongly", tell_a_late_receipt_that_never_came),
    ("late_receipt_told_wrongly", pass_over_a_late_receipt_of_a_paid_submit),
    ("callback_forged", forge_a_callback),
    ("final_state_changed", change_the_final_state),
    ("older_after_final", tell_an_older_state_after_the_final_one),
    ("status_differs", tell_another_status_than_there_is),
    ("not_settled", leave_a_message_on_its_way),
    ("hold_not_resolved_once", hold_twice),
    ("hold_not_resolved_once", never_end_a_hold),
    ("hold_not_resolved_once", end_a_hold_twice),
    ("charged_twice", charge_twice),
    ("message_nobody_knows", keep_a_message_that_nobody_knows),
    ("books_broken", break_the_books),
    ("deadlock", deadlock),
    ("not_settled", leave_work),
]


@pytest.mark.parametrize(("kind", "spoil"), SPOILED, ids=[spoil.__name__ for _, spoil in SPOILED])
def test_a_broken_promise_is_found(kind: str, spoil: Spoil):
    logs = Logs()
    spoil(logs)
    assert kind in logs.found


def test_where_clients_are_to_be_spared_a_request_without_a_word_is_found():
    logs = Logs()
    verdict = Verdict()
    evidence = gather(logs.client, [CarrierLog(kind, []) for kind in CARRIERS], [], logs.charges)
    spare_clients(verdict, evidence)
    assert {violation.kind for violation in verdict.violations} == {"request_failed"}


def spared(*lines: ClientLine) -> list[str]:
    """What is found where clients are to be spared, and these lines stand in the client's log too."""
    logs = Logs()
    client = [line for line in logs.client if not isinstance(line, Doubt)] + list(lines)
    verdict = Verdict()
    evidence = gather(client, [CarrierLog(kind, []) for kind in CARRIERS], [], logs.charges)
    spare_clients(verdict, evidence)
    return [violation.subject for violation in verdict.violations]


def test_a_repeat_that_met_its_first_request_in_flight_is_in_order_when_it_gets_that_answer():
    met = Met(0.9, "key-knows", asked=2)
    assert spared(met, Word(1.9, "key-knows", id="id-knows")) == []


def test_a_repeat_that_is_never_answered_or_meets_its_twin_for_long_has_failed():
    assert spared(Met(0.9, "key-knows", asked=2)) == ["key-knows"]
    stays = [Met(0.9 + seconds, "key-knows", asked=2) for seconds in range(12)]
    assert spared(*stays, Word(13.0, "key-knows", id="id-knows")) == ["key-knows"]


def test_another_message_for_a_repeat_that_met_its_first_request_is_found():
    logs = Logs()
    logs.client += [Met(0.9, "key-knows", asked=2), Word(1.9, "key-knows", id="id-other")]
    assert "two_messages_for_a_key" in logs.found


def test_a_batch_that_was_met_stands_at_its_first_item():
    offers = [Offer(0.5, f"b.{n}", "acme", NUMBERS["knows"], "at_most_once", f"{n}") for n in range(3)]
    evidence = gather(
        [*offers, Met(0.9, "b", asked=2)],
        [CarrierLog(kind, []) for kind in CARRIERS],
        [],
        {"acme": "delivered"},
    )
    assert [len(evidence.keys[offer.key].met) for offer in offers] == [1, 0, 0]


def test_every_kind_of_violation_is_shown_to_be_found():
    assert {kind for kind, _ in SPOILED} == set(KINDS) - {"request_failed"}


def test_at_least_once_may_be_sent_twice_when_the_client_is_told():
    logs = Logs()
    logs.blind.append(taken("id-blind", 9))
    logs.replace_told("id-blind", final("id-blind", possible_duplicate=True))
    assert logs.found == set()
    assert logs.judged().counts["sent_twice"] == 1


def test_what_nobody_can_know_may_end_unpaid_at_a_carrier_that_names_no_ids():
    logs = Logs()
    logs.end_as("id-blind", "failed", error="outcome_unknown")
    assert logs.found == set()
    assert logs.judged().counts["ended_unknown_though_taken"] == 1


def test_a_carrier_that_contradicts_itself_proves_nothing():
    logs = Logs()
    logs.knows[0].receipts.append(receipt(5, "undelivered", "ref-1"))
    assert logs.found == set()
    logs.end_as("id-knows", "undelivered")
    assert logs.found == set()


def test_a_late_receipt_charges_what_had_ended_otherwise():
    logs = Logs()
    deliver_late(logs, late("id-knows"))
    assert logs.found == set()
    assert logs.judged().counts["late_receipts"] == 1


def test_a_callback_that_was_refused_by_the_endpoint_does_not_count_as_told():
    logs = Logs()
    logs.replace_told("id-knows", final("id-knows", answered=503))
    assert logs.found == {"callback_missing"}
