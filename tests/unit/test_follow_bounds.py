"""Where the command looks for what it sent: lists go by acceptance, and ids are up to half a minute older."""

from api.message_reads import AHEAD_SECONDS, SETTLED_SECONDS
from cli.follow import EARLIER_MS, LATER_MS


def test_the_bounds_of_a_look_hold_every_message_between_the_oldest_and_the_newest_id() -> None:
    assert EARLIER_MS <= -AHEAD_SECONDS * 1_000
    assert LATER_MS > SETTLED_SECONDS * 1_000
