"""Marks: two multisets of millions of rows compared without a join.

A mark is the sum of keyed hashes over what each row says of a message (or of what was asked for by name). The
entries of an account must have the same mark as its locks (as its operations); only where they differ are
rows looked at one by one. The key is new in every run, so nobody can aim at a collision.

As SQL, for ``.replace``: ``{key}`` is any number of 48 bits.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

# Sums are told modulo this, and compared so.
MODULUS: Final = 2**62
KEY_BITS: Final = 48
# Marks of locks are told for so many groups of accounts, by the last bits of their ids: far fewer rows than
# accounts, and only where two differ is each account looked at. PostgreSQL reckons with 8 kB and more a
# group; twice as many would not fit into its default memory for a hash, and it would use the disk.
BUCKETS: Final = 256

# What is hashed of a message: its amount and the time of what happened to it; the seed names what that was,
# with the version that placed a hold, and the reason that ended it. A quarter of each hash, so that what one
# lock says three times fits into a bigint. The time as an interval: its hash needs no time zone, and a server
# of version 17 has none of a time with one.
EPOCH: Final = "timestamptz '2000-01-01 00:00:00+00'"
_OF_MESSAGE: Final = """
    (interval_hash_extended({at} - {epoch}, hashint8extended({amount}, uuid_hash_extended({message}, {what})))
     >> 2)
"""
_HELD: Final = "{key} + 8 * {version}"
# Seeds of their own, far from those of any version.
_ENDED: Final = "hashtextextended(coalesce({reason}, ''), {key} - {end})"
_LATE: Final = "{key} - 3"


def _of_message(amount: str, at: str, message: str, what: str) -> str:
    mark = _OF_MESSAGE.replace("{amount}", amount).replace("{at}", at).replace("{epoch}", EPOCH)
    return mark.replace("{message}", message).replace("{what}", what)


def _ended(reason: str, end: str) -> str:
    return _ENDED.replace("{reason}", reason).replace("{end}", end)


OF_ENTRY: Final = _of_message(
    "e.amount_micros",
    "e.at",
    "e.message_id",
    f"""case e.kind when 'hold' then {_HELD.replace("{version}", "e.version")}
             when 'capture' then {_ended("e.reason", "1")} when 'release' then {_ended("e.reason", "2")}
             else {_LATE} end""",
)
_END_OF_LOCK: Final = _ended("reason", "case lock_state when 'CAPTURED' then 1 else 2 end")
# A lock with its id, its state as lock_state: the entries that must be there for it.
OF_LOCK: Final = f"""
    {_of_message("amount_micros", "held_at", "id", _HELD.replace("{version}", "hold_version"))}
    + case lock_state when 'HELD' then 0
           else {_of_message("amount_micros", "resolved_at", "id", _END_OF_LOCK)} end
    + case when late_captured_at is null then 0
           else {_of_message("amount_micros", "late_captured_at", "id", _LATE)} end
"""
_OF_CREDIT: Final = """
    (hashint8extended({amount}, hashint8extended(posted_after_micros, hashtextextended(
         kind::text || ' ' || reference, {key} + {version}))) >> 2)
"""
OF_CREDIT: Final = _OF_CREDIT.replace("{version}", "e.version").replace(
    "{amount}",
    "case when e.credit_account = e.account_id then e.amount_micros else -e.amount_micros end",
)
OF_OPERATION: Final = _OF_CREDIT.replace("{version}", "entry_version").replace("{amount}", "amount_micros")


def by_bucket(marks: Mapping[int, int]) -> Counter[int]:
    """Add marks of accounts up by bucket."""
    buckets = Counter[int]()
    for account, mark in marks.items():
        buckets[account & (BUCKETS - 1)] += mark
    return buckets


def of_buckets(marks: Mapping[int, int], buckets: Iterable[int]) -> dict[int, int]:
    """Return the marks of the accounts that are in these buckets."""
    wanted = set(buckets)
    return {account: mark for account, mark in marks.items() if account & (BUCKETS - 1) in wanted}


def differing(some: Mapping[int, int], others: Mapping[int, int]) -> list[int]:
    """Return the accounts, or buckets, whose marks are not of the same rows."""
    names = sorted(some.keys() | others.keys())
    return [name for name in names if (some.get(name, 0) - others.get(name, 0)) % MODULUS != 0]
