"""Who suspends a client is told before that what waits ends for good, and no runbook ends the evidence so."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from api.openapi import document
from api.operations import OPERATIONS
from cli.client_commands import client

DOCS = Path(__file__).parents[2] / "docs"


def test_the_command_says_that_what_waits_ends_for_good() -> None:
    shown = CliRunner().invoke(client, ["set", "--help"]).output
    assert "end what waits for good" in " ".join(shown.split())


def test_the_api_says_that_what_waits_ends_for_good() -> None:
    change = document(OPERATIONS)["paths"]["/admin/v1/clients/{name}"]["patch"]
    assert "What waits then ends for good" in " ".join(change["description"].split())


@pytest.mark.parametrize("page", ["TollwireLedgerDrift", "TollwireBalanceDeductionFailures"])
def test_whoever_looks_into_the_books_suspends_nobody(page: str) -> None:
    assert "--suspend" not in (DOCS / "runbooks" / f"{page}.md").read_text()
