"""A service takes no words, and says what it does take."""

import subprocess
import sys

import pytest

SERVICES = ("api", "worker", "dlr", "ledger", "simulator")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    # Without a setting and with a bound: one that ran all the same would be seen, and ended.
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_asked_for_help_says_what_it_is_and_does_not_run(name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: tollwire-{name}\n")
    assert "TOLLWIRE_" in done.stdout
    assert ".env.example" in done.stdout


def test_a_service_takes_no_words():
    done = run("simulator", "--port", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "It takes no arguments" in done.stderr
