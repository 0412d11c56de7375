"""A command whose streams are closed, or cannot spell what it says: no traceback, no wrong answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.streams import open_streams


def run(words: str, home: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run `tollwire` with the words of a shell, so that they may close streams."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWIRE_")}
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m cli {words}"],
        env={**own, "TOLLWIRE_HOME": str(home), **environ},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("words", ["doctor --json", "ledger verify", "migrate --check", "message list"])
def test_without_an_output_nothing_is_done_and_neither_right_nor_findings_said(
    words: str, tmp_path: Path
) -> None:
    done = run(f"{words} >&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[0] == "The output is closed: nothing was done."


def test_without_both_outputs_it_ends_the_same_way(tmp_path: Path) -> None:
    assert run("ledger verify >&- 2>&-", tmp_path).returncode == 2


def test_at_a_closed_input_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_streams()
    with sys.stdin, sys.stderr:
        assert not sys.stdin.isatty()
        assert sys.stdin.read() == ""
        print("a word", file=sys.stderr)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_an_output_cannot_spell_is_escaped(encoding: str, tmp_path: Path) -> None:
    done = run("doctor --service worker", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert b"\\u2717 settings      TOLLWIRE_POSTGRES_DSN is missing" in done.stdout
    assert b"Traceback" not in done.stderr
