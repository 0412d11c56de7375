"""The list of `tollwire recover`: what an earlier run wrote stays, and what is no list is left alone."""

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
TITLES = "message_id,done,told,told_at,client_id,amount_micros,currency"
GONE_LINE = f"{GONE},gone,DELIVERED,{AT.isoformat()},7,7900,EUR"


def test_a_run_that_goes_on_adds_to_the_list_and_a_line_is_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    with opened(file) as first:
        first.listener(TOLD)(GONE, "gone", "DELIVERED")
        assert file.read_text().splitlines() == [TITLES, GONE_LINE]
    with opened(file) as second:
        listener = second.listener(TOLD)
        listener(GONE, "gone", "DELIVERED")
        listener(HERE, "held_back", "")
    assert file.read_text().splitlines() == [TITLES, GONE_LINE, f"{HERE},held_back,"]


def test_the_list_of_another_recovery_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    with opened(file) as first:
        first.check(is_resumed=False)
        first.listener(TOLD)
    with opened(file) as titles_alone:
        titles_alone.check(is_resumed=False)
        titles_alone.listener(TOLD)(GONE, "gone", "DELIVERED")
    with opened(file) as other:
        other.check(is_resumed=True)
        with pytest.raises(Failure, match="is the list of another recovery") as refused:
            other.check(is_resumed=False)
    assert refused.value.exit_code == Exit.USAGE
    assert file.read_text().splitlines() == [TITLES, GONE_LINE]


def test_a_run_that_is_refused_writes_no_line(tmp_path: Path) -> None:
    with opened(tmp_path / "list.csv"):
        pass
    assert (tmp_path / "list.csv").read_text() == ""


def test_a_file_that_is_no_list_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "messages.csv"
    file.write_text("to,text\n+4915112345678,Hello\n")
    with pytest.raises(Failure, match="is no list") as refused, opened(file):
        pass
    assert refused.value.exit_code == Exit.USAGE
    assert file.read_text() == "to,text\n+4915112345678,Hello\n"
