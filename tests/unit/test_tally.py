"""What a walk has found is shown until a whole walk has not found it."""

from ledger.tally import Tally


def test_nothing_is_said_before_a_whole_walk_unless_something_is_found() -> None:
    tally = Tally()
    assert tally.shown is None
    tally.add(0)
    assert tally.shown is None
    tally.add(2)
    assert tally.shown == 2


def test_a_whole_walk_without_findings_says_0() -> None:
    tally = Tally()
    tally.end()
    assert tally.shown == 0


def test_a_fault_is_shown_until_the_end_of_a_walk_that_did_not_find_it() -> None:
    tally = Tally()
    tally.add(1)
    tally.end()
    shown = [tally.shown]
    tally.add(0)
    shown.append(tally.shown)
    tally.end()
    assert [*shown, tally.shown] == [1, 1, 0]


def test_more_findings_show_at_once_and_fewer_when_the_walk_is_whole() -> None:
    tally = Tally(1)
    tally.add(3)
    assert tally.shown == 3
    tally.end()
    tally.add(2)
    assert tally.shown == 3
    tally.end()
    assert tally.shown == 2


def test_what_a_walk_found_that_was_given_up_stays_until_another_is_whole() -> None:
    tally = Tally()
    tally.add(2)
    tally.begin()
    tally.add(1)
    assert tally.shown == 2
    tally.begin()
    assert tally.shown == 2
    tally.end()
    assert tally.shown == 0
