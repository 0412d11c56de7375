"""UUIDv7 as numbers (RFC 9562, section 5.7): 48 bits of milliseconds, 74 bits of randomness.

A message id carries its time, so the day's partition, the lookup and the order of a list need no other
column (DESIGN 9). PostgreSQL compares uuids byte by byte, which is the order of the numbers here.
"""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

RANDOMNESS_BITS = 74
_TIME_BITS = 48
_RAND_B_BITS = 62
_RAND_B_MASK = (1 << _RAND_B_BITS) - 1
# The version nibble (7) and the two variant bits (10) at their places.
_FIXED_BITS = (0x7 << 76) | (0b10 << 62)
_MS_PER_DAY = 86_400_000
_EPOCH_DAY = date(1970, 1, 1)


def uuid7_number(ms: int, randomness: int) -> int:
    """Return the 128 bits of the UUIDv7 of a Unix time in milliseconds and 74 random bits.

    The larger ``randomness`` of one millisecond is the larger id, so a caller may count up within one.

    Raises:
        ValueError: ``ms`` is not 48 bits or ``randomness`` is not 74 bits.
    """
    if ms >> _TIME_BITS or randomness >> RANDOMNESS_BITS:
        raise ValueError("a UUIDv7 takes 48 bits of milliseconds and 74 bits of randomness")
    rand_a = randomness >> _RAND_B_BITS
    return (ms << 80) | (rand_a << 64) | (randomness & _RAND_B_MASK) | _FIXED_BITS


def uuid7_from(ms: int, randomness: int) -> UUID:
    """Return a UUIDv7; as ``uuid7_number``."""
    return UUID(int=uuid7_number(ms, randomness))


def uuid7_time_ms(id: UUID) -> int:  # noqa: A002 - the callers' word for it
    """Return the Unix time in milliseconds that a UUIDv7 carries."""
    return id.int >> 80


def uuid7_day(id: UUID) -> date:  # noqa: A002 - the callers' word for it
    """Return the UTC day that a UUIDv7 belongs to, so the partition it is stored in."""
    return datetime.fromtimestamp(uuid7_time_ms(id) // 1000, UTC).date()


def day_floor(day: date) -> UUID:
    """Return the smallest UUIDv7 of a UTC day, the lower bound of its partition."""
    return uuid7_from((day - _EPOCH_DAY).days * _MS_PER_DAY, 0)


def day_bounds(day: date) -> tuple[UUID, UUID]:
    """Return a day's partition as PostgreSQL wants it: the first id of the day, the first of the next."""
    return day_floor(day), day_floor(day + timedelta(days=1))
