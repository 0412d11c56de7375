import errno
import shutil

import pytest

from embedded.rotation import KEEP, rotate


def test_a_short_log_or_none_is_left_alone(tmp_path):
    log = tmp_path / "api.log"
    assert not rotate(log)
    log.write_text("short")
    assert not rotate(log, bytes_max=5)
    assert log.read_text() == "short"


def test_a_long_log_is_set_aside_and_its_writer_goes_on_at_the_start(tmp_path):
    log = tmp_path / "api.log"
    with log.open("a") as writer:
        writer.write("old and long\n")
        writer.flush()
        assert rotate(log, bytes_max=5)
        writer.write("new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "api.log.1").read_text() == "old and long\n"


def test_only_so_many_old_logs_are_kept_and_the_first_is_the_youngest(tmp_path):
    log = tmp_path / "api.log"
    for number in range(KEEP + 3):
        log.write_text(f"generation {number}")
        assert rotate(log, bytes_max=1)
    old = sorted(path.name for path in tmp_path.glob("api.log.*"))
    assert old == [f"api.log.{number}" for number in range(1, KEEP + 1)]
    assert (tmp_path / "api.log.1").read_text() == f"generation {KEEP + 2}"


def test_without_room_for_the_copy_every_log_stays_as_it_was(tmp_path, monkeypatch):
    log, older = tmp_path / "api.log", tmp_path / "api.log.1"
    log.write_text("old and long\n")
    older.write_text("older\n")

    def fill(source, target):
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(OSError, match="No space"):
        rotate(log, bytes_max=5)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "api.log": "old and long\n",
        "api.log.1": "older\n",
    }
