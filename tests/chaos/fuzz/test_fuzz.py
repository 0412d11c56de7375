"""No input makes a parser fail but in the way that is documented; the long run is `make chaos-simulation`."""

from itertools import islice

import pytest

from tests.chaos.fuzz.mutate import inputs
from tests.chaos.fuzz.run import feed
from tests.chaos.fuzz.targets import TARGETS, Target

SHORT = 1_000


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_takes_what_is_good(name: str) -> None:
    target = TARGETS[name]
    fed = feed(target, target.corpus)
    assert (fed.crashes, fed.taken > 0) == ([], True)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_refuses_and_never_crashes(name: str) -> None:
    target = TARGETS[name]
    fed = feed(target, islice(inputs(target.corpus, 1), SHORT))
    assert (fed.crashes, fed.inputs) == ([], SHORT)
    assert fed.refused > SHORT / 20


def test_a_crash_is_told_with_its_input() -> None:
    def read(raw: bytes) -> object:
        if b"x" not in raw:
            raise KeyError("x")
        return raw

    fed = feed(Target(read, (ValueError,), ()), [b"ax", b"b", b"x"])
    assert (fed.inputs, fed.taken, fed.refused) == (3, 2, 0)
    assert fed.crashes == ["b'b': KeyError('x')"]


def test_a_seed_gives_the_same_inputs() -> None:
    one, other, third = (list(islice(inputs([b"text", b"other"], seed), 200)) for seed in (3, 3, 4))
    assert one == other != third
