"""Seals and archives as files: the same in, the same out, and nothing is written over."""

import gzip
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest

from ledger import archive_file, seal_files
from ledger.archive_file import TableFile
from ledger.checkpoints import Seal, SignedSeal
from ledger.findings import Finding

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 20)
SEAL = SignedSeal(
    Seal(DAY, 2, 5, {"EUR": {"hold": {"entries": 3, "micros": 30}}}, bytes(range(32))),
    b"\x02" * 32,
    b"\x03" * 32,
    "k1",
)
TEXT = (
    b'{"accounts":2,"amounts":{"EUR":{"hold":{"entries":3,"micros":30}}},"day":"2026-11-20","entries":5,"key_id":"k1",'
    b'"root":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","root_before":"' + b"02" * 32
    + b'","signature":"' + b"03" * 32 + b'","v":1}\n'
)  # fmt: skip


def test_a_seal_is_always_the_same_bytes() -> None:
    assert seal_files.encode(SEAL) == TEXT
    assert seal_files.decode(TEXT) == SEAL


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b'"v":1', b'"v":2'),
        b"{}",
        b"",
        TEXT.replace(b"k1", b'k1","x":"'),
        TEXT.replace(b"0304", b"zz04"),
    ],
)
def test_what_is_no_seal_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        seal_files.decode(text)


def test_another_version_is_named() -> None:
    with pytest.raises(ValueError, match=r"^version 2 is not known here$"):
        seal_files.decode(TEXT.replace(b'"v":1', b'"v":2'))


def test_an_export_writes_what_is_missing_and_nothing_over(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "seals"
    done = seal_files.export(folder, [SEAL])
    path = folder / "2026-11-20.json"
    assert (done.written, done.kept, done.differing) == ([DAY], [], [])
    assert (path.read_bytes(), path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (
        TEXT,
        0o600,
        0o700,
    )
    done = seal_files.export(folder, [SEAL])
    assert (done.written, done.kept, done.differing) == ([], [DAY], [])
    done = seal_files.export(folder, [replace(SEAL, key_id="k2")])
    assert (done.written, done.kept, done.differing) == ([], [], [DAY])
    assert [each.name for each in folder.iterdir()] == ["2026-11-20.json"]
    assert path.read_bytes() == TEXT


def test_a_folder_of_seals_is_read_whole_and_its_faults_named(tmp_path: Path) -> None:
    seal_files.export(tmp_path, [SEAL])
    (tmp_path / "2026-11-21.json").write_bytes(TEXT)
    (tmp_path / "2026-11-22.json").write_bytes(b"no seal")
    (tmp_path / "notes.json").write_bytes(b"not ours")
    (tmp_path / "2026-11-23.json.new").write_bytes(b"not ours")
    other = date(2026, 11, 24)
    seal_files.export(tmp_path, [replace(SEAL, seal=replace(SEAL.seal, day=other))])
    seals, findings = seal_files.read(tmp_path)
    assert list(seals) == [DAY, other]
    assert seals[DAY] == SEAL
    assert [finding.check for finding in findings] == ["seal_file_unreadable"] * 2
    assert findings[0].sentence == "2026-11-21.json: the file holds the seal of 2026-11-20"
    assert findings[1].sentence.startswith("2026-11-22.json: ")


def test_a_finding_names_its_place() -> None:
    assert str(Finding("check", "a sentence")) == "check: a sentence"
    assert str(Finding("check", "a sentence", account_id=0)) == "check: account 0: a sentence"
    message = Finding("check", "a sentence", 3, message_id=SEAL_ID)
    assert str(message) == f"check: account 3 message {SEAL_ID}: a sentence"


SEAL_ID = UUID(int=7)


def test_an_archive_tells_both_sides_of_the_compression(tmp_path: Path) -> None:
    path = tmp_path / "entries.csv.gz"
    with TableFile(path) as file:
        assert file.take(b"id,at\n1,2\n") is False
        file.compress()
        assert file.take(b"3,4\n") is False
        file.rows = 2
        facts = file.finish()
    plain = b"id,at\n1,2\n3,4\n"
    assert gzip.decompress(path.read_bytes()) == plain
    assert (facts.file, facts.rows, facts.columns) == ("entries.csv.gz", 2, ["id", "at"])
    assert (facts.bytes, facts.plain_bytes) == (path.stat().st_size, len(plain))
    assert facts.plain_sha256 == hashlib.sha256(plain).hexdigest() == archive_file.read_back(path)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == archive_file.sha256_of(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_rows_give_the_same_file_whatever_its_name_and_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with TableFile(tmp_path / name) as file:
            file.take(b"id\n1\n")
            file.finish()
        os.utime(tmp_path / name, (1, 1))
    one, other = ((tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other
    assert one[3:8] == bytes(5)  # no name and no time inside


def test_so_much_waits_and_no_more(tmp_path: Path) -> None:
    with TableFile(tmp_path / "file") as file:
        assert file.rows == 0
        assert file.take(b"x" * (archive_file.PIECE_BYTES - 1)) is False
        assert file.take(b"x") is True
        file.compress()
        assert file.take(b"x") is False
        file.finish()


def test_what_is_left_unfinished_is_removed(tmp_path: Path) -> None:
    with TableFile(tmp_path / "file") as file:
        file.take(b"id\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"no gzip", None])
def test_what_does_not_open_is_read_back_as_nothing(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"text" * 99)[:-6] if damage is None else damage)
    expected = hashlib.sha256(b"").hexdigest() if damage == b"" else ""
    assert archive_file.read_back(path) == expected
    assert archive_file.read_back(tmp_path / "missing") == ""


LEAVE_UNFINISHED = """
import sys
from pathlib import Path
from ledger.archive_file import TableFile
try:
    with TableFile(Path(sys.argv[1])) as file:
        file.take(b"id\\n1\\n")
        file.compress()
        raise KeyError
except KeyError:
    pass
"""


def test_a_file_that_is_left_unfinished_leaves_nothing_open(tmp_path: Path) -> None:
    """Python's own watch on resources: what it finds when it collects them stands on stderr."""
    path = tmp_path / "left.csv.gz"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LEAVE_UNFINISHED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert not path.exists()
