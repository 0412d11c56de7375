from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import day_bounds, uuid7_day, uuid7_from, uuid7_time_ms

# To the year 9999, where Python's dates end.
times_ms = st.integers(0, 253_402_300_799_999)
randomness = st.integers(0, 2**74 - 1)


@given(times_ms, randomness)
def test_the_time_and_the_version_are_read_back(ms, random_bits):
    made = uuid7_from(ms, random_bits)
    assert uuid7_time_ms(made) == ms
    assert made.version == 7


@given(times_ms, randomness, times_ms, randomness)
def test_ids_sort_by_time_and_then_by_randomness(ms, random_bits, other_ms, other_bits):
    made, other = uuid7_from(ms, random_bits), uuid7_from(other_ms, other_bits)
    assert (made < other) == ((ms, random_bits) < (other_ms, other_bits))
    assert (made.bytes < other.bytes) == (made < other)


@given(times_ms.filter(lambda ms: ms < 253_402_214_400_000), randomness)
def test_every_id_lies_in_the_bounds_of_its_day_alone(ms, random_bits):
    made = uuid7_from(ms, random_bits)
    first, end = day_bounds(uuid7_day(made))
    assert first <= made < end
    assert uuid7_day(made) == date.fromordinal(date(1970, 1, 1).toordinal() + ms // 86_400_000)
