import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from embedded.files import FolderInUse, FolderLock, is_there, secret_in, tail, write_private
from tests.support.accounts import IS_ROOT, another_account, give_away


def test_a_private_file_is_for_its_owner_alone_and_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    write_private(path, "first, and longer")
    write_private(path, "second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_made_once_and_kept(tmp_path):
    secret = secret_in(tmp_path / "token.secret")
    assert len(secret) >= 32
    assert secret_in(tmp_path / "token.secret") == secret
    assert secret_in(tmp_path / "other.secret") != secret


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    log = tmp_path / "x.log"
    assert tail(log, 3) == ""
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail(log, 2) == "line 9998\nline 9999"


@pytest.fixture
def closed():
    """A folder that our account, or nobody where we are root, may not look into."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-closed-"))
    if IS_ROOT:
        give_away(folder)
    folder.chmod(0o000)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_what_may_not_be_looked_at_is_not_said_to_be_away(closed, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    round_ = tmp_path / "round"
    round_.symlink_to(round_)
    assert is_there(tmp_path)
    assert is_there(file)
    assert [is_there(away) for away in (tmp_path / "none", file / "below", round_)] == [False] * 3
    with another_account() if IS_ROOT else contextlib.nullcontext(), pytest.raises(PermissionError):
        is_there(closed / "file")


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with FolderLock(tmp_path) as lock:
        lock.take()
        with pytest.raises(FolderInUse, match="in use"):
            FolderLock(tmp_path).take()
    with FolderLock(tmp_path):
        pass


def test_looking_at_a_lock_never_takes_it(tmp_path):
    lock = FolderLock(tmp_path)
    assert not lock.is_taken()
    with lock:
        assert FolderLock(tmp_path).is_taken()
    assert not lock.is_taken()


def test_a_lock_is_taken_while_somebody_looks_at_it_all_the_time(tmp_path):
    lock, looks = FolderLock(tmp_path), Event()
    with ThreadPoolExecutor(max_workers=1) as thread:
        seen = thread.submit(lambda: [lock.is_taken() for _ in iter(looks.is_set, True)])
        for _ in range(20):
            with FolderLock(tmp_path):
                pass
        looks.set()
        assert seen.result()


def test_a_lock_ends_with_its_process_and_is_not_inherited(tmp_path):
    holder = (
        "import subprocess, sys; from pathlib import Path; from embedded.files import FolderLock;"
        f"FolderLock(Path({str(tmp_path)!r})).take();"
        "child = subprocess.Popen(['/bin/sleep', '60'], stdout=subprocess.DEVNULL);"
        "print(child.pid, flush=True); import os; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -9
    with FolderLock(tmp_path):
        os.kill(int(done.stdout), 9)
