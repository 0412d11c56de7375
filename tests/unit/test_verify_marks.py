"""Marks tell which accounts differ, and nothing else."""

from ledger import verify_marks
from ledger.verify_marks import (
    BUCKETS,
    MODULUS,
    OF_CREDIT,
    OF_ENTRY,
    OF_LOCK,
    OF_OPERATION,
    by_bucket,
    differing,
    of_buckets,
)


def test_accounts_share_buckets_by_their_last_bits() -> None:
    marks = {1: 5, 1 + BUCKETS: 7, 2: 11, BUCKETS - 1: 13, 0: 17}
    assert by_bucket(marks) == {1: 12, 2: 11, BUCKETS - 1: 13, 0: 17}
    assert of_buckets(marks, [1, 0]) == {1: 5, 1 + BUCKETS: 7, 0: 17}
    assert of_buckets(marks, []) == {}
    assert of_buckets({2: 1, 3: 2}, [2]) == {2: 1}


def test_what_differs_is_named_in_order() -> None:
    some, others = {3: 5, 1: 2, 9: 0}, {1: 3, 3: 5, 4: 1}
    assert differing(some, others) == [1, 4]
    assert differing({7: 8}, {}) == [7]
    assert differing({}, {6: 8}) == [6]


def test_sums_are_told_modulo() -> None:
    assert differing({1: 5}, {1: 5 + MODULUS}) == []
    assert differing({1: 5}, {1: 5 - MODULUS}) == []
    assert differing({1: 0}, {1: MODULUS // 2}) == [1]


def test_a_mark_is_a_keyed_hash_of_time_amount_message_and_what_happened() -> None:
    nested = "interval_hash_extended(t - epoch, hashint8extended(a, uuid_hash_extended(m, w)))"
    expected = f"({nested.replace('epoch', verify_marks.EPOCH)} >> 2)"
    assert " ".join(verify_marks._of_message("a", "t", "m", "w").split()) == expected


def test_the_key_is_left_for_who_runs_them_and_all_else_is_told() -> None:
    for sql in (OF_ENTRY, OF_LOCK, OF_CREDIT, OF_OPERATION):
        assert sql.count("{key}") == sql.count("{")
        assert "{key}" in sql
