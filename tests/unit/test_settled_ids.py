"""A list that is followed stops before every id that may still commit."""

from api.accept import ANSWER_DEADLINE_SECONDS
from api.message_reads import AHEAD_SECONDS, SETTLED_SECONDS
from api.store import ACCEPT_DEADLINE_SECONDS
from shared.runtime.clock import REFRESH_SECONDS
from shared.runtime.server_calls import TRY_SECONDS

# Processes measure the database's clock every half minute, to within a round trip.
CLOCKS_DIFFER_SECONDS = 1.0


def test_an_id_commits_before_a_list_that_is_followed_comes_to_it() -> None:
    waits_for_its_flush = ANSWER_DEADLINE_SECONDS
    # The last try may begin at the end of the call, and the server finish it though nobody waits any more.
    commits = ACCEPT_DEADLINE_SECONDS + TRY_SECONDS
    assert waits_for_its_flush + commits + CLOCKS_DIFFER_SECONDS <= SETTLED_SECONDS


def test_an_id_is_ahead_of_its_message_by_no_more_than_a_list_looks_on() -> None:
    """Between two measurements another primary may take over, and its clock be behind."""
    assert REFRESH_SECONDS <= AHEAD_SECONDS
