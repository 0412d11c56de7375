"""What the simulated carrier remembers, writes down, and knows again after it was killed."""

from pathlib import Path

import pytest

from simulator.exchange import Bucket, Exchange
from simulator.journal import Journal, read_log
from simulator.memory import MESSAGES_MAX, Memory
from simulator.outcomes import Outcome
from simulator.rules import Rule, Rules
from simulator.wire import Submit

NOW = 1_795_255_200.0
RECOGNISING = Rules(recognise_repeated_id=True, receipt_delay_seconds=1.0)


def submit(message_id: str = "m-1", **changed) -> Submit:
    return Submit(**{"id": message_id, "to": "+4915112345678", "text": "Grüße 👋", **changed})


def exchange(rules: Rules = RECOGNISING, boot: str = "b", **changed) -> Exchange:
    return Exchange(boot, lambda: False, rules, **changed)


def take_and_write(simulated: Exchange, journal: Journal, *submits: Submit) -> list[str]:
    replies = [simulated.take(one, NOW) for one in submits]
    journal.submits([reply.line for reply in replies])
    return [reply.line.outcome for reply in replies]


def test_the_log_counts_each_message_and_keeps_its_text():
    simulated = exchange(Rules())
    for _ in range(3):
        simulated.take(submit(), NOW)
    simulated.take(submit(part=2), NOW)
    assert [(line.part, line.count, line.text) for line in simulated.memory.log] == [
        (1, 1, "Grüße 👋"),
        (1, 2, "Grüße 👋"),
        (1, 3, "Grüße 👋"),
        (2, 1, "Grüße 👋"),
    ]
    assert simulated.memory.counts == {"submits": 4, "taken": 4}


def test_the_oldest_message_is_forgotten_when_there_are_too_many():
    memory = Memory(messages_max=2)
    simulated = exchange(memory=memory)
    outcomes = [simulated.take(submit(one), NOW).line.outcome for one in ("a", "b", "a", "c", "a", "b")]
    assert outcomes == ["taken", "taken", "repeated", "taken", "repeated", "taken"]
    assert len(memory.seen) == 2
    assert MESSAGES_MAX > 2


def test_a_new_life_knows_what_was_taken_and_what_it_owes(tmp_path: Path):
    path = tmp_path / "log"
    with Journal(path) as journal:
        first = exchange(boot="first")
        assert take_and_write(first, journal, submit("a"), submit("b"), submit("a")) == [
            "taken",
            "taken",
            "repeated",
        ]
        journal.acked([1])
    with Journal(path) as journal:
        second = exchange(boot="second")
        (owed,) = second.recover(journal)
        assert (owed.receipt.id, owed.due) == ("b", NOW + 1.0)
        again, new = second.take(submit("a"), NOW).line, second.take(submit("c"), NOW).line
    assert (again.outcome, again.count, again.reference) == ("repeated", 3, "sim-first-1")
    assert new.reference not in ("sim-first-1", "sim-first-2")
    assert new.receipts[0].n == 3


def test_a_new_life_goes_on_failing_as_often_as_the_rules_say(tmp_path: Path):
    rules = Rules(rules=[Rule(outcome=Outcome.TEMPORARY, times=2)])
    outcomes = []
    for boot in ("a", "b", "c"):
        with Journal(tmp_path / "log") as journal:
            simulated = exchange(rules, boot)
            simulated.recover(journal)
            outcomes += take_and_write(simulated, journal, submit())
    assert outcomes == ["try_again", "try_again", "taken"]


def test_the_file_has_no_text_and_outlives_a_torn_line(tmp_path: Path):
    path = tmp_path / "logs" / "log"
    with Journal(path) as journal:
        take_and_write(exchange(), journal, submit("a"))
    with path.open("ab") as file:
        file.write(b'{"n":2,"at"')
    assert "Grüße" not in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o077 == 0
    (line,) = read_log(path)
    assert (line.id, line.chars, line.text) == ("a", 7, None)


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b'{"n":1,"at"')
    with Journal(path) as journal:
        take_and_write(exchange(), journal, submit("a"))
    assert [line.id for line in read_log(path)] == ["a"]


def test_a_full_file_makes_way_once(tmp_path: Path):
    path = tmp_path / "log"
    with Journal(path, file_max_bytes=2_000) as journal:
        simulated = exchange()
        for number in range(40):
            take_and_write(simulated, journal, submit(f"m-{number}"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(file.stat().st_size <= 2_000 for file in tmp_path.iterdir())
    ids = [line.id for line in read_log(path)]
    assert ids == [f"m-{number}" for number in range(40 - len(ids), 40)]


def test_a_reset_forgets_all_but_never_gives_a_reference_twice(tmp_path: Path):
    with Journal(tmp_path / "log") as journal:
        simulated = exchange()
        before = simulated.take(submit(), NOW).line
        take_and_write(simulated, journal, submit())
        simulated.forget()
        journal.clear()
        after = simulated.take(submit(), NOW).line
    assert (after.outcome, after.count) == ("taken", 1)
    assert after.reference != before.reference
    assert read_log(tmp_path / "log") == []


def test_without_a_path_nothing_is_written():
    with Journal(None) as journal:
        take_and_write(exchange(), journal, submit())
        journal.acked([1])
        journal.clear()
        assert list(journal.entries()) == []


def test_a_carrier_that_owes_too_much_takes_nothing():
    full = Exchange("b", lambda: True)
    reply = full.take(submit(), NOW)
    assert reply.failure is not None
    assert (reply.failure.status, reply.line.outcome) == (503, "full")


def test_a_bucket_lets_its_burst_through_and_then_its_rate():
    bucket = Bucket(10, 5)
    assert [bucket.take(NOW) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(NOW + 0.21) for _ in range(3)] == [True, True, False]
    assert not bucket.take(NOW)  # a clock that goes back gives nothing
    assert all(Bucket(0, 1).take(NOW) for _ in range(100))


@pytest.mark.parametrize("echoes", [True, False])
def test_receipts_name_our_id_only_when_told_to(echoes):
    simulated = exchange(Rules(echo_message_id=echoes))
    (due,) = simulated.take(submit(), NOW).later
    assert due.receipt.id == ("m-1" if echoes else None)
