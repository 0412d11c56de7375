"""However the books are cut for a verification, every entry and every message is in one piece."""

from datetime import date, timedelta
from uuid import UUID

import pytest

from ledger import verify_ranges
from ledger.verify_books import Account
from ledger.verify_chain import NOTHING
from ledger.verify_ranges import ID_LAST, entry_spans, id_ranges
from shared.domain.ids import day_floor, uuid7_from

FIRST_DAY = date(2026, 11, 1)
DAYS = [FIRST_DAY + timedelta(days=n) for n in range(6)]
MEGABYTE = 1_000_000
SIZES = [
    [0, 0, 0, 0, 0, 0],
    [8_192] * 6,
    [3 * MEGABYTE, 3 * MEGABYTE, 1, 3 * MEGABYTE, 3 * MEGABYTE, 0],
    [1, 90 * MEGABYTE, 1, 1, 400 * MEGABYTE, 0],
    [5_000 * MEGABYTE, 0, 0, 0, 0, 1],
]
ACCOUNTS = [(1, 5), (2, 0), (7, 1_000_000), (8, 3), (400, 20), (401, 20)]
ANY_ACCOUNT = [-5, 0, 1, 2, 3, 7, 8, 200, 400, 401, 999, 2**40]


def account(number: int, version: int) -> Account:
    return Account(number, "EUR", 0, 0, 0, 0, 0, version, bytes(32), NOTHING)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("accounts", [[], ACCOUNTS[:1], ACCOUNTS])
@pytest.mark.parametrize("since", [DAYS[0], DAYS[2]])
def test_each_day_of_each_account_is_in_one_span(
    sizes: list[int], accounts: list[tuple[int, int]], since: date
) -> None:
    some = [account(*one) for one in accounts]
    spans = list(entry_spans(list(zip(DAYS, sizes, strict=True)), some, since))
    for day in DAYS:
        for number in ANY_ACCOUNT:
            found = [s for s in spans if s.from_day <= day < s.to_day and s.low <= number <= s.high]
            assert len(found) == (day >= since), (day, number)
    assert all(span.low <= span.high for span in spans)
    assert [span.from_day for span in spans] == sorted(span.from_day for span in spans)


def test_a_large_day_is_cut_by_its_accounts_and_small_days_go_together() -> None:
    sizes = list(zip(DAYS, [1, 1, 400 * MEGABYTE, 1, 1, 0], strict=True))
    spans = list(entry_spans(sizes, [account(n, 10) for n in range(1, 101)], FIRST_DAY))
    before, *parts, after = spans
    assert (before.from_day, before.to_day) == (DAYS[0], DAYS[2])
    assert {(part.from_day, part.to_day) for part in parts} == {(DAYS[2], DAYS[3])}
    assert [part.high for part in parts[:-1]] == [25, 50, 75]
    assert (after.from_day, after.to_day) == (DAYS[3], DAYS[5] + timedelta(days=1))


def test_a_day_beyond_all_measure_is_not_read_more_than_a_few_times() -> None:
    sizes = [(FIRST_DAY, 10**12)]
    spans = list(entry_spans(sizes, [account(n, 10) for n in range(1, 1_001)], FIRST_DAY))
    assert len(spans) == verify_ranges.PARTS_A_DAY_MAX


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("first", [UUID(int=0), day_floor(DAYS[3])])
def test_the_ranges_of_ids_follow_each_other(sizes: list[int], first: UUID) -> None:
    ranges = id_ranges(list(zip(DAYS, sizes, strict=True)), first)
    lows, highs = zip(*ranges, strict=True)
    assert (lows[0], highs[-1]) == (first, ID_LAST)
    assert lows[1:] == highs[:-1]
    assert all(low < high for low, high in ranges)


def test_days_are_gathered_up_to_the_limit_and_not_beyond() -> None:
    large = verify_ranges.ENTRY_BYTES_A_SPAN
    days = [FIRST_DAY + timedelta(days=n) for n in range(8)]
    sizes = [large - 60, 60, 1, large - 1, large, 2 * large + 1, large]
    spans = list(entry_spans(list(zip(days, sizes, strict=False)), [], FIRST_DAY))
    assert [(days.index(span.from_day), days.index(span.to_day)) for span in spans] == [
        (0, 2),
        (2, 4),
        (4, 5),
        (5, 6),
        (6, 7),
    ]


def test_ids_are_cut_where_the_bytes_say() -> None:
    large = verify_ranges.LOCK_BYTES_A_RANGE
    sizes = [large, 4 * large + 10, large // 10, large // 10, large - large // 10]
    bounds = [low for low, _ in id_ranges(list(zip(DAYS, sizes, strict=False)), UUID(int=0))]
    a_fifth = 86_400_000 // 5
    first_ms = day_floor(DAYS[1]).int >> 80
    inside = [uuid7_from(first_ms + part * a_fifth, 0) for part in range(5)]
    assert bounds == [UUID(int=0), *inside, day_floor(DAYS[3])]


def test_a_days_name_is_its_digits_and_without_one_nothing_is_kept() -> None:
    assert verify_ranges._day("20261120") == date(2026, 11, 20)
    assert verify_ranges._day(None) == date.max - timedelta(days=1)
