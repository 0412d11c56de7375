from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from shared.domain.ids import day_bounds, day_floor, uuid7_day, uuid7_from, uuid7_time_ms

ALL_ONES = 2**74 - 1


def test_the_example_of_rfc_9562_is_made_and_read():
    # RFC 9562, appendix A.6: 2022-02-22 14:22:22 EST, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert uuid7_from(0x017F22E279B0, (0xCC3 << 62) | 0x18C4DC0C0C07398F) == example
    assert uuid7_time_ms(example) == 1645557742000


def test_an_id_says_that_it_is_a_uuid_of_version_7():
    made = uuid7_from(1, ALL_ONES)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


@pytest.mark.parametrize(("ms", "randomness"), [(-1, 0), (2**48, 0), (0, -1), (0, 2**74)])
def test_numbers_beyond_their_bits_are_refused(ms, randomness):
    with pytest.raises(ValueError, match="48 bits"):
        uuid7_from(ms, randomness)


def test_a_day_begins_with_the_smallest_id_of_its_first_millisecond():
    midnight_ms = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
    assert day_floor(date(2026, 11, 21)) == uuid7_from(midnight_ms, 0)
    assert str(day_floor(date(2026, 11, 21))) == "01a1fb67-1800-7000-8000-000000000000"


def test_a_day_ends_where_the_next_begins():
    first, end = day_bounds(date(2028, 2, 29))
    assert end == day_floor(date(2028, 3, 1))
    last = uuid7_from(uuid7_time_ms(end) - 1, ALL_ONES)
    assert first < last < end
    assert uuid7_day(first) == uuid7_day(last) == date(2028, 2, 29)
    assert uuid7_day(end) == date(2028, 3, 1)
