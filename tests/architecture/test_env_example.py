"""``.env.example`` lists every setting, as the types that read them say."""

import re
from pathlib import Path

from cli import env_example

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example.text(), (
        "write it anew: python -m cli.env_example > .env.example"
    )


def test_no_variable_is_read_that_the_file_does_not_list() -> None:
    listed = set(re.findall(r"TOLLWIRE_[A-Z_]+", env_example.text()))
    # Set by tests and by a DBA's hand only, and said where they are read.
    known = {"TOLLWIRE_MIGRATE_DSN", "TOLLWIRE_LONG"}
    packages = ("api", "worker", "dlr", "ledger", "cli", "embedded", "simulator", "shared", "alembic")
    read = {
        name
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"""["'](TOLLWIRE_[A-Z_]+[A-Z])["']""", path.read_text(encoding="utf-8"))
    }
    assert read - listed - known == set()
