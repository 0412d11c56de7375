"""A flush in groups: what one of them meets is no matter of the others."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from shared.runtime.metrics import BATCH_ERRORS

Answer = TypeVar("Answer")


def grouped(names: Iterable[Hashable]) -> list[list[int]]:
    """The places of each name."""
    groups: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return list(groups.values())


async def each_apart(
    batcher: str,
    sizes: Sequence[int],
    groups: Iterable[Sequence[int]],
    work_off: Callable[[Sequence[int]], Awaitable[Sequence[Answer]]],
) -> list[list[Answer] | Exception]:
    """Answer each chunk by its size of its group's answers, or by the error that its group alone met."""
    answers: dict[int, list[Answer] | Exception] = {}
    for indices in groups:
        try:
            each = iter(await work_off(indices))
        except Exception as error:  # noqa: BLE001 - answered to this group's chunks; what the others did stands
            BATCH_ERRORS.labels(batcher, "answered").inc()
            answers.update((index, error) for index in indices)
            continue
        for index in indices:
            answers[index] = [next(each) for _ in range(sizes[index])]
    return [answers[index] for index in range(len(sizes))]
