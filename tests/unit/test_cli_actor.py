"""Whom the audit trail names for a command that goes past the API."""

import os

import pytest

from cli.database_command import actor


def test_an_account_without_an_entry_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch):
    """As in a container that runs under a number of its own."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_000_730_000)
    assert actor().name == "cli/uid/1000730000"
    monkeypatch.setenv("LOGNAME", "maria")
    assert actor().name == "cli/maria"
