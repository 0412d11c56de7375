"""What happens in a run: a list of steps, made from a seed or cut down from one that failed. Pure.

A step is a word and some whole numbers. What a number means depends on what there is to choose from when
the step is carried out, and 0 is always the plainest choice: so any step may be left out or made plainer,
and what is left is a program still.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")
# Which words come how often.
WEIGHTS: Final = {
    "run": 56, "accept": 11, "retry": 3, "sweep": 7, "turn": 6, "outwait": 2,
    "receipts": 3, "callbacks": 3, "holds": 2,
    "advance": 8, "crash": 3, "cancel": 2, "credit": 2, "suspend": 1, "wipe": 1, "restore": 1,
}  # fmt: skip
NUMBERS_MAX: Final = 24
NUMBER_BELOW: Final = 1_000
MORE_NUMBERS: Final = 200
STEPS: Final = 90


class Step(NamedTuple):
    """One thing that somebody does."""

    word: str
    numbers: tuple[int, ...]


class Choices:
    """The numbers of a step, one after the other; after the last one everything is plain."""

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        self._numbers = iter(numbers)

    def below(self, limit: int) -> int:
        """A number from 0 to below the limit."""
        return next(self._numbers, 0) % limit

    def of(self, options: Sequence[T]) -> T:
        """One of the options; the first is the plainest."""
        return options[self.below(len(options))]

    def rarely(self, one_in: int) -> bool:
        """True once in so many times, and never where choices are plain."""
        return self.below(one_in) == one_in - 1

    def more(self) -> "Choices":
        """As many numbers as anybody asks for, made from one of these."""
        seed = self.below(NUMBER_BELOW)
        rng = random.Random(seed)
        return Choices([rng.randrange(NUMBER_BELOW) for _ in range(MORE_NUMBERS)] if seed else ())


def program_of(seed: int, steps: int = STEPS) -> list[Step]:
    """The program of a seed, always the same."""
    rng = random.Random(seed)
    words = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps)
    return [Step(word, tuple(rng.randrange(NUMBER_BELOW) for _ in range(NUMBERS_MAX))) for word in words]
