"""`tollwire send`, as people and programs use it: against a running instance, interrupted, and again."""

import csv
import json
import os
import signal
import subprocess
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cli.csv_messages import read_csv
from shared.domain.money import parse_micros
from simulator.magic import magic_number
from simulator.outcomes import Outcome
from tests.support.instance import Instance, eventually

MESSAGES = Path(__file__).parent.parent / "data" / "messages.csv"
NUMBER = "+4915112345678"
# Many small batches: a send must still be under way when a test has seen its first answer.
ROWS, BATCH_SIZE = 1_000, 10


def rows_of_the_test_data(count: int) -> list[tuple[str, str]]:
    return [(row.to, row.text) for row in islice(read_csv(MESSAGES.read_bytes()).messages, count)]


def write(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("to", "text"), *rows])
    return path


def send(running: Instance, path: Path, *options: str, exit_code: int = 0) -> Any:
    done = running.run("send", "--csv", str(path), "--json", *options)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout or done.stderr)


def account(running: Instance) -> dict[str, Any]:
    done = running.run("credit", "show", "demo", "--json")
    assert done.returncode == 0, done.stderr
    balance: dict[str, Any] = json.loads(done.stdout)["balance"]
    return balance


def state_of(document: Any) -> dict[str, int]:
    return {line["state"]: line["count"] for line in document["books"]["states"]}


def begin(running: Instance, path: Path) -> "tuple[subprocess.Popen[str], Path]":
    """Start a send and return it with its memory when some batches are answered and others are not."""
    folder = running.home / "sends"
    known = set(folder.glob("*"))
    process = subprocess.Popen(
        running.command("send", "--csv", str(path), "--batch-size", str(BATCH_SIZE)),
        env=running.environ, cwd=running.home.parent, stderr=subprocess.PIPE, text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - it sets a signal and takes no lock
    )  # fmt: skip
    [memory] = eventually(lambda: set(folder.glob("*")) - known, bool)
    eventually(lambda: batches_done(memory), bool)
    return process, memory


def hear_interrupts() -> None:
    """Undo what a shell does to jobs in its background, in which these tests may run: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def batches_done(memory: Path) -> int:
    return memory.read_text().count('"type":"done"')


def test_the_file_of_five_thousand_goes_through_and_its_books_are_right(running):
    before = account(running)
    document = send(running, MESSAGES, "--wait")
    books = document["books"]
    assert document["accepted"] + document["rejected"] == document["rows"] == 5_000
    assert {group["code"] for group in document["rejections"]} == {"text_too_long"}
    assert state_of(document) == {"DELIVERED": document["accepted"]}
    assert books["is_right"]
    assert books["captured"] == books["delivered"] == books["balance_moved"] == document["cost"]["amount"]
    moved = parse_micros(before["posted"]) - parse_micros(account(running)["posted"])
    assert moved == parse_micros(books["captured"])


def test_sent_again_it_sends_nothing_and_tells_the_same(running):
    before = account(running)
    document = send(running, MESSAGES, "--wait")
    assert document["sent_before"] == document["accepted"]
    assert document["books"]["is_right"]
    after = account(running)
    assert (after["posted"], after["held"]) == (before["posted"], before["held"])


def test_each_end_of_a_message_is_counted_and_only_the_delivered_are_paid(running, tmp_path):
    ends = (Outcome.UNDELIVERABLE, Outcome.EXPIRED, Outcome.REFUSED)
    rows = [(magic_number(outcome), "Hello") for outcome in ends] + [
        (NUMBER, "Hello"),
        (NUMBER, "Hello again"),
    ]
    document = send(running, write(tmp_path / "ends.csv", rows), "--wait")
    assert state_of(document) == {"DELIVERED": 2, "UNDELIVERED": 1, "EXPIRED": 1, "FAILED_PERM": 1}
    books = document["books"]
    assert books["is_right"]
    assert (books["captured"], books["delivered"]) == ("0.1500", "0.1500")
    cost = parse_micros(document["cost"]["amount"])
    assert parse_micros(books["captured"]) + parse_micros(books["released"]) == cost


def test_rejected_rows_are_told_with_their_lines_and_can_be_mended(running, tmp_path):
    path = write(
        tmp_path / "some.csv", [(NUMBER, "good"), ("0151", "bad"), (NUMBER, "a\nb"), ("+999", "bad")]
    )
    rejected = tmp_path / "rejected.csv"
    document = send(running, path, "--rejected", str(rejected))
    assert (document["accepted"], document["rejected"]) == (2, 2)
    [group] = document["rejections"]
    assert (group["code"], group["lines"]) == ("invalid_number", [3, 6])
    with rejected.open(newline="", encoding="utf-8") as file:
        assert [(row["to"], row["line"], row["code"]) for row in csv.DictReader(file)] == [
            ("0151", "3", "invalid_number"),
            ("+999", "6", "invalid_number"),
        ]
    assert send(running, path, "--strict", exit_code=1)["rejected"] == 2


def test_a_file_of_rejected_rows_alone_is_a_failure(running, tmp_path):
    assert send(running, write(tmp_path / "bad.csv", [("0151", "x")]), "--wait", exit_code=1)["accepted"] == 0


def test_a_file_without_the_columns_is_wrong_use_and_says_what_would_be_right(running, tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_text("number,message\n+49,x\n")
    failure = send(running, path, exit_code=2)
    assert "no column 'to'" in failure["detail"]
    assert send(running, tmp_path / "missing.csv", exit_code=2)["detail"] == "No such file or directory"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_started_again_it_sends_each_message_once(running, tmp_path, number):
    rows = [(to, f"{text} {number.name}") for to, text in rows_of_the_test_data(ROWS)]
    path = write(tmp_path / "rows.csv", rows)
    before = account(running)
    process, memory = begin(running, path)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "nothing is sent twice" in told
    assert 0 < batches_done(memory) < ROWS // BATCH_SIZE
    document = send(running, path, "--batch-size", str(BATCH_SIZE), "--wait")
    assert 0 < document["sent_before"] < document["accepted"]
    assert document["accepted"] + document["rejected"] == ROWS
    assert_paid_once(running, before, document)


def test_without_its_memory_the_idempotency_keys_alone_keep_it_from_sending_twice(running, tmp_path):
    path = write(tmp_path / "rows.csv", [(to, f"{text} keys") for to, text in rows_of_the_test_data(100)])
    before = account(running)
    first = send(running, path, "--wait")
    for file in (running.home / "sends").glob("*.jsonl"):
        file.unlink()
    again = send(running, path, "--wait")
    assert again["sent_before"] == again["accepted"] == first["accepted"]
    assert again["books"]["balance_moved"] is None
    assert again["books"]["captured"] == first["books"]["captured"]
    assert_paid_once(running, before, first)


@pytest.mark.parametrize("options", [("--batch-size", "10"), ("--batch-size", "40"), ("--from", "ACME")])
def test_in_another_way_under_the_same_keys_it_is_refused_instead_of_sent_twice(running, tmp_path, options):
    path = write(tmp_path / "rows.csv", [(to, f"{text} {options}") for to, text in rows_of_the_test_data(40)])
    send(running, path, "--batch-size", "20", "--wait")
    before = account(running)
    assert "begun with another" in send(running, path, *options, exit_code=1)["title"]
    for file in (running.home / "sends").glob("*.jsonl"):
        file.unlink()
    assert "begun in another way" in send(running, path, *options, exit_code=1)["title"]
    assert send(running, path, "--batch-size", "20")["sent_before"] == 40
    after = account(running)
    assert (after["posted"], after["open_holds"]) == (before["posted"], before["open_holds"])


def test_another_name_sends_the_same_file_once_more(running, tmp_path):
    path = write(tmp_path / "rows.csv", [(NUMBER, "once more")])
    send(running, path, "--wait")
    assert send(running, path, "--run", "again", "--wait")["sent_before"] == 0


def test_an_api_that_dies_meanwhile_is_waited_for(running, tmp_path):
    path = write(tmp_path / "rows.csv", [(to, f"{text} api") for to, text in rows_of_the_test_data(ROWS)])
    before = account(running)
    process, _ = begin(running, path)
    os.kill(running.pid_of("api"), signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    document = send(running, path, "--batch-size", str(BATCH_SIZE))
    assert document["sent_before"] == document["accepted"]
    # All may have been sent before the API died: then nobody has waited for it yet.
    eventually(lambda: running.run("credit", "show", "demo").returncode, lambda code: code == 0)
    # Some wait for the lease of the API that died: what they cost is taken or still held.
    after = account(running)
    spent = parse_micros(before["available"]) - parse_micros(after["available"])
    assert spent == parse_micros(document["cost"]["amount"])


def assert_paid_once(running: Instance, before: dict[str, Any], document: Any) -> None:
    books = document["books"]
    assert books["is_right"], books
    after = account(running)
    moved = parse_micros(before["posted"]) - parse_micros(after["posted"])
    assert moved == parse_micros(books["captured"]) == parse_micros(document["cost"]["amount"])
    assert after["held"] == before["held"]
