"""Who suspends a client is told before that what waits ends for good, and no runbook ends the evidence so."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from api.accept import ANSWER_DEADLINE_SECONDS
from api.in_flight import WAIT_SECONDS
from api.limits import DEADLINE_SECONDS
from api.openapi import document
from api.operations import OPERATIONS
from api.store import ACCEPT_DEADLINE_SECONDS
from cli.client_commands import client
from ledger.suspended import ON_THEIR_WAY_SECONDS
from shared.runtime.server_calls import CONNECT_SECONDS, TRY_SECONDS
from shared.storage.config import POLL_BACKOFF_SECONDS, POLL_SECONDS, VERSION_SECONDS

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


def test_a_walk_begins_when_nothing_more_can_be_accepted() -> None:
    """What is accepted behind a walk, and scheduled, would keep its hold until it is due, up to 30 days."""
    # One look that has to wait for everything, after one that failed.
    hears = POLL_BACKOFF_SECONDS + POLL_SECONDS + CONNECT_SECONDS + VERSION_SECONDS
    # Who was let in just before. What waits for its body, or in a batch for its turn, is looked at again.
    waits = 2 * DEADLINE_SECONDS + WAIT_SECONDS + ANSWER_DEADLINE_SECONDS
    # The last try may begin at the end of the call, and the server finish it though nobody waits any more.
    commits = ACCEPT_DEADLINE_SECONDS + TRY_SECONDS
    assert hears + waits + commits <= ON_THEIR_WAY_SECONDS
    # An operator's replay looks at its client itself; then it notes who asked.
    notes = CONNECT_SECONDS + TRY_SECONDS
    assert notes + ANSWER_DEADLINE_SECONDS + commits <= ON_THEIR_WAY_SECONDS
