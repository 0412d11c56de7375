"""Cuts a failing program down to what it takes to fail, so that its trace can be read."""

from collections.abc import Awaitable, Callable, Sequence

from tests.chaos.simulation.program import Step

Fails = Callable[[Sequence[Step]], Awaitable[bool]]


async def shrunk(program: Sequence[Step], fails: Fails, tries_max: int = 600) -> list[Step]:
    """The program with every step left out that it fails without, and every number made plain that may be."""
    left = list(program)
    budget = _Budget(fails, tries_max)
    size = max(len(left) // 2, 1)
    while size >= 1:
        start = 0
        while start < len(left):
            shorter = left[:start] + left[start + size :]
            if await budget.fails(shorter):
                left = shorter
            else:
                start += size
        size //= 2
    for place, step in enumerate(left):
        for plainer in (step._replace(numbers=()), *_plainer(step)):
            candidate = [*left[:place], plainer, *left[place + 1 :]]
            if plainer != left[place] and await budget.fails(candidate):
                left = candidate
                break
    return left


def _plainer(step: Step) -> list[Step]:
    """The same with fewer numbers, the fewest first."""
    return [
        step._replace(numbers=step.numbers[:kept]) for kept in (1, 2, 4, 8, 16) if kept < len(step.numbers)
    ]


class _Budget:
    def __init__(self, fails: Fails, tries_max: int) -> None:
        self._fails = fails
        self._left = tries_max

    async def fails(self, program: Sequence[Step]) -> bool:
        self._left -= 1
        return self._left >= 0 and await self._fails(program)


__all__ = ["shrunk"]
