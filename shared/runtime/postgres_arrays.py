"""Arrays are sent without asking an abstract class what each element is (docs/adr/0019).

asyncpg looks at every element of an array, whether it is an array itself, by ``isinstance`` with
``Iterable`` and ``Sized`` of `collections.abc`: Python code, 0.2 µs a time, more than all else that an
element costs. A tuple of types says the same of what we send, and is asked in C.
"""

from collections import deque
from typing import Final

from asyncpg.protocol import protocol

# What an array may come as: all that has a length, keeps an order or none, and is no mapping and no text.
CONTAINERS: Final[tuple[type, ...]] = (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values()))
# asyncpg's names for the two, both asked of each element.
NAMES: Final = ("IterableABC", "SizedABC")


def ask_types() -> None:
    """Have asyncpg ask for these types, in this whole process; without those names it stays as it is."""
    for name in NAMES:
        if hasattr(protocol, name):
            setattr(protocol, name, CONTAINERS)
