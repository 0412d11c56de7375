"""When the walk over all leases begins, and where it goes on."""

from datetime import UTC, datetime

from ledger.lease_walk import FROM_THE_LONGEST, WALK_EVERY_SECONDS, LeaseWalk

AT = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_walk_begins_in_each_life_of_the_stream_and_some_minutes_after_the_last_one_began() -> None:
    walk, now = LeaseWalk(), 1_000.0
    assert walk.place(7, now) == FROM_THE_LONGEST
    assert walk.place(7, now + 2) == FROM_THE_LONGEST, "NATS did not answer"
    walk.has_come_to(7, AT)
    assert walk.place(7, now + WALK_EVERY_SECONDS) == AT, "it goes on, however long it takes"
    walk.has_come_to(7, None)
    assert walk.place(7, now + WALK_EVERY_SECONDS - 1) is None
    assert walk.place(7, now + WALK_EVERY_SECONDS) == FROM_THE_LONGEST
    assert walk.place(7, now + WALK_EVERY_SECONDS + 2) == FROM_THE_LONGEST, "its first look failed"
    walk.has_come_to(7, None)
    assert walk.place(8, now + WALK_EVERY_SECONDS + 3) == FROM_THE_LONGEST
