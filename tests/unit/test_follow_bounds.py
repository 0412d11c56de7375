"""Where the command looks for what it sent: lists go by acceptance, and ids may be ahead of it."""

from api.message_reads import AHEAD_SECONDS
from cli.follow import EARLIER_MS


def test_a_look_begins_before_the_acceptance_of_the_oldest_id() -> None:
    assert EARLIER_MS <= -AHEAD_SECONDS * 1_000
