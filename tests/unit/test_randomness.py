"""Random bytes are handed out once, in this process and in its children."""

import os

from shared.runtime.randomness import FETCH_BYTES, Randomness

TAKEN_BYTES = 16


def test_nothing_is_handed_out_twice() -> None:
    randomness = Randomness()
    taken = [randomness.take(TAKEN_BYTES) for _ in range(3 * FETCH_BYTES // TAKEN_BYTES)]
    assert len(set(taken)) == len(taken)


def test_bits_are_as_many_as_asked_for() -> None:
    randomness = Randomness()
    assert max(randomness.bits(12) for _ in range(2_000)).bit_length() == 12


def test_a_child_process_has_bytes_of_its_own() -> None:
    randomness = Randomness()
    randomness.take(TAKEN_BYTES)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, randomness.take(TAKEN_BYTES))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    of_child = os.read(reading, TAKEN_BYTES)
    os.close(reading)
    assert of_child != randomness.take(TAKEN_BYTES)
