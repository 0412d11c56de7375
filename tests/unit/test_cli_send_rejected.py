"""The file of rejected rows: sent again, each of its texts is what it was in the file before."""

from pathlib import Path

from cli.csv_messages import CsvFile, CsvMessage, read_csv
from cli.send_file import _write_rejected
from cli.send_progress import Done, Header, Progress, Rejected

HEADER = Header(1, "a.csv", "a" * 64, "run", {"batch_size": 2}, 0, "EUR", 10, 0, 3, True)
TEXTS = ["a\rb", "a\nb", "a\r\nb", "\r", "a\r", 'He said "hi"', "a,b;c\td", '",\r"', " a ", "grüße 💶"]


def test_what_was_rejected_is_read_back_as_it_was(tmp_path: Path) -> None:
    messages = [CsvMessage(2 + place, f"{place}", text) for place, text in enumerate(TEXTS)]
    rejected = [Rejected(place, "invalid_number", "No", "no, it\r is not") for place in range(len(TEXTS))]
    path = tmp_path / "rejected.csv"
    with Progress(tmp_path / "run.jsonl") as progress:
        progress.begin(HEADER)
        progress.finish(Done(0, [], rejected))
        assert _write_rejected(path, progress, CsvFile("a" * 64, messages)) is None
    again = read_csv(path.read_bytes()).messages
    assert [(row.to, row.text) for row in again] == [(row.to, row.text) for row in messages]
