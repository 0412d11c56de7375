"""The list of `tollwire recover`: what an earlier run wrote stays, and what is no list is left alone."""

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from cli.failures import Exit, Failure
from cli.recover_list import opened
from ledger.recover_facts import Said

HERE, GONE = UUID(int=1), UUID(int=2)
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
TOLD = {GONE: Said("DELIVERED", AT, 7, 7_900, "EUR")}
BEGAN, BEGAN_LATER = (datetime(2026, 11, 21, 11, minute, 0, 123456, tzinfo=UTC) for minute in (0, 1))
CLIENTS = {7: "acme"}
COLUMNS = "message_id,done,told,told_at,client_id,amount_micros,currency,client,amount"
TITLES = f"{COLUMNS},recovery begun {BEGAN.isoformat()}"
GONE_LINE = f"{GONE},gone,DELIVERED,{AT.isoformat()},7,7900,EUR,acme,0.0079"


def test_a_run_that_goes_on_adds_to_the_list_and_a_line_is_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    with opened(file) as first:
        first.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
        assert file.read_text().splitlines() == [TITLES, GONE_LINE]
    with opened(file) as second:
        listener = second.listener(TOLD, CLIENTS, BEGAN)
        listener(GONE, "gone", "DELIVERED")
        listener(HERE, "held_back", "")
    assert file.read_text().splitlines() == [TITLES, GONE_LINE, f"{HERE},held_back,"]


def test_the_list_of_another_recovery_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Also where the present one had begun before and goes on: it had another list, or none."""
    file = tmp_path / "list.csv"
    with opened(file) as first:
        first.check(BEGAN)
        first.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    with opened(file) as other:
        other.check(BEGAN)
        with pytest.raises(Failure, match="is the list of another recovery") as refused:
            other.check(BEGAN_LATER)
    assert refused.value.exit_code == Exit.USAGE
    assert file.read_text().splitlines() == [TITLES, GONE_LINE]


def test_titles_alone_are_made_those_of_the_recovery_that_begins(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    with opened(file) as first:
        first.listener(TOLD, CLIENTS, BEGAN_LATER)
    with opened(file) as second:
        second.check(BEGAN)
        second.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    assert file.read_text().splitlines() == [TITLES, GONE_LINE]


def test_a_list_that_cannot_be_cut_is_told_as_the_files_fault() -> None:
    file = os.memfd_create("list", os.MFD_ALLOW_SEALING)
    os.write(file, f"{TITLES}\r\n{GONE_LINE}".encode())
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    path = Path(f"/proc/self/fd/{file}")
    with opened(path) as listed, pytest.raises(Failure) as refused:
        listed.listener(TOLD, CLIENTS, BEGAN)
    os.close(file)
    assert (refused.value.exit_code, refused.value.detail.startswith(f"{path}: ")) == (Exit.FAILED, True)


@contextmanager
def disk_with_room_for(file: Path, size_bytes: int) -> Iterator[None]:
    """No file may grow beyond what this one has and a little more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_a_line_that_was_torn_swallows_none(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    with opened(file) as first:
        listener = first.listener(TOLD, CLIENTS, BEGAN)
        listener(HERE, "ended", "DELIVERED")
        with disk_with_room_for(file, 45), pytest.raises(Failure) as full:
            listener(GONE, "gone", "DELIVERED")
    assert (full.value.exit_code, full.value.detail.startswith(f"{file}: ")) == (Exit.FAILED, True)
    ended_line = f"{HERE},ended,DELIVERED"
    torn = GONE_LINE[:45]
    assert file.read_text().splitlines() == [TITLES, ended_line, torn]
    with opened(file) as second:
        second.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    with opened(file) as third:
        third.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    assert file.read_text().splitlines() == [TITLES, ended_line, GONE_LINE]


@pytest.mark.parametrize("length", range(37, len(GONE_LINE)))
def test_a_torn_line_of_what_is_gone_stands_for_nothing(tmp_path: Path, length: int) -> None:
    """Also where the run that goes on is cut off before it comes to that message again."""
    file = tmp_path / "list.csv"
    file.write_text(f"{TITLES}\r\n{HERE},ended,DELIVERED\r\n{GONE_LINE[:length]}", newline="")
    with opened(file) as second:
        second.listener(TOLD, CLIENTS, BEGAN)
    with opened(file) as third:
        third.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    lines = [line for line in file.read_text().splitlines() if ",gone," in line]
    assert lines == [GONE_LINE]


def test_a_torn_line_of_what_was_done_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    torn = f"{HERE},ended,DELIV"
    file.write_text(f"{TITLES}\r\n{torn}", newline="")
    with opened(file) as second:
        second.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    assert file.read_text().splitlines() == [TITLES, torn, GONE_LINE]


@pytest.mark.parametrize("end", ["", "\r", "\n", "\r\n"])
@pytest.mark.parametrize("length", [9, 61, 62, 90, len(TITLES)])
def test_titles_that_were_torn_off_are_written_to_their_end(tmp_path: Path, length: int, end: str) -> None:
    file = tmp_path / "list.csv"
    file.write_text(TITLES[:length] + (end if length == len(TITLES) else ""), newline="")
    with opened(file) as found:
        found.listener(TOLD, CLIENTS, BEGAN)(GONE, "gone", "DELIVERED")
    assert file.read_text().splitlines() == [TITLES, GONE_LINE]


def test_the_list_is_a_file_and_nothing_that_cannot_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for name in ("-", "pipe", os.devnull, "/dev/full"):
        with pytest.raises(Failure, match=f"^{name} is no file") as refused, opened(Path(name)):
            pass
        assert refused.value.exit_code == Exit.USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize(
    "content",
    [
        b"to,text\n+4915112345678,Hello\n",
        b"\0",
        b"\xff\xfe",
        b'"' + b"x" * 200_000,
        b"one line",
        b"message_id,done,told\n",
        TITLES[:61].encode() + b"\n",
    ],
)
def test_a_file_that_is_no_list_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "messages.csv"
    file.write_bytes(content)
    with pytest.raises(Failure, match="is no list") as refused, opened(file):
        pass
    assert refused.value.exit_code == Exit.USAGE
    assert file.read_bytes() == content


def test_a_list_with_something_else_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    for content in (b"x" * 200_000 + b"\n", b"\xff\n"):
        file.write_bytes(TITLES.encode() + b"\n" + content)
        with pytest.raises(Failure, match="is no list"), opened(file):
            pass


def test_a_run_that_is_refused_writes_no_line(tmp_path: Path) -> None:
    with opened(tmp_path / "list.csv"):
        pass
    assert (tmp_path / "list.csv").read_text() == ""
