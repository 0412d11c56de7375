"""One call for many items, or calls for halves of them where one item makes it fail (RULES 8)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.runtime.postgres import is_bisectable

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def in_halves(
    call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], items: Sequence[Item]
) -> list[Answer | Exception]:
    """Call for all items, or for halves where a row is at fault; an answer for each position.

    Where one item fails alone, its answer is the error; its neighbours have theirs.

    Raises:
        Exception: what ``call`` raised, where it was no row's fault.
    """
    try:
        return list(await call(items))
    except Exception as error:
        if not is_bisectable(error):
            raise
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return [*await in_halves(call, items[:middle]), *await in_halves(call, items[middle:])]
