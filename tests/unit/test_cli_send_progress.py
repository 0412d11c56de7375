"""The progress file of a send: what was answered is never asked again, whatever was cut off."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from cli.failures import Failure
from cli.send_progress import KEYS_PROTECT_SECONDS, Accepted, Done, Header, Progress, refuse_other_options

HEADER = Header(1, "a.csv", "a" * 64, "run", {"batch_size": 2}, 0, "EUR", 10, 0, 3, True)
DONE = Done(0, [Accepted(0, "id", 1, 75_000, False)], [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sends" / "run.jsonl"


def test_what_was_written_is_read_again(path):
    with Progress(path) as progress:
        progress.begin(HEADER)
        progress.ask(0, 5)
        progress.finish(DONE)
        progress.ask(1, 6)
    with Progress(path) as progress:
        assert progress.run == HEADER
        assert progress.done == {0: DONE}
        assert progress.asked_at_ms == {0: 5, 1: 6}


def test_what_a_send_remembers_is_for_its_own_account_alone(path):
    path.parent.mkdir(mode=0o755)  # as earlier versions made it
    umask = os.umask(0o022)
    try:
        with Progress(path) as progress:
            progress.begin(HEADER)
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("cut_off", [1, 10, 30])
def test_a_line_that_was_cut_off_is_dropped_and_written_anew(path, cut_off):
    with Progress(path) as progress:
        progress.begin(HEADER)
        progress.finish(DONE)
    path.write_bytes(path.read_bytes()[:-cut_off])
    with Progress(path) as progress:
        assert progress.run == HEADER
        assert progress.done == {}
        progress.finish(DONE)
    with Progress(path) as progress:
        assert progress.done == {0: DONE}


def test_two_processes_cannot_send_the_same_run(path):
    with Progress(path), pytest.raises(Failure, match="another process"), Progress(path):
        pass


def test_a_batch_without_an_answer_is_unsure_when_its_key_may_be_gone(path):
    with Progress(path) as progress:
        progress.begin(HEADER)
        progress.ask(0, 0)
        progress.finish(DONE)
        progress.ask(1, 0)
        progress.ask(2, 0)
        progress.withdraw(2)
        later_ms = int(KEYS_PROTECT_SECONDS * 1000)
        assert progress.unsure(later_ms) == []
        assert progress.unsure(later_ms + 1) == [1]
    with Progress(path) as progress:
        # Asking again does not make the first time younger.
        progress.ask(1, later_ms)
        assert progress.unsure(later_ms + 1) == [1]


def test_a_run_of_which_nothing_was_sent_may_begin_anew_in_another_way(path):
    other = msgspec.structs.replace(HEADER, options={"batch_size": 3})
    with Progress(path) as progress:
        progress.begin(HEADER)
        progress.ask(0, 0)
    with Progress(path) as progress:
        assert progress.is_begun
        progress.withdraw(0)
    with Progress(path) as progress:
        assert not progress.is_begun
        progress.begin(other)
    with Progress(path) as progress:
        assert progress.run == other


def test_a_run_goes_on_with_its_own_options_only():
    refuse_other_options(HEADER, {"batch_size": 2})
    with pytest.raises(Failure, match="begun with another batch_size, from") as caught:
        refuse_other_options(HEADER, {"batch_size": 3, "from": "ACME"})
    assert caught.value.detail == "batch_size: 2 then, 3 now, from: not given then, ACME now"
