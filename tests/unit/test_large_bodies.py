"""Bodies beyond the usual size have a bound of their own, for all and for each client."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import yaml

from api.large_bodies import BODIES_MAX_BYTES, LargeBodies
from api.problems import Refusal
from api.routing import BATCH_MAX_BYTES, BODY_MAX_BYTES, read_body
from api.turns import BATCHES_MAX
from shared.domain.problems import ProblemCode

ONE, OTHER, THIRD = 1, 2, 3
KB = 1024
DECODED_TIMES = 4
VALUES = Path(__file__).parents[2] / "charts/tollwire/values.yaml"


def busy(bodies: LargeBodies, client: int, size: int) -> bool:
    with bodies.held(client) as grow:
        try:
            grow(size)
        except Refusal as refusal:
            return refusal.code is ProblemCode.BUSY and int(refusal.headers["Retry-After"]) > 0
    return False


def test_a_lone_client_has_half_and_leaves_the_others_room() -> None:
    bodies = LargeBodies(100)
    with ExitStack() as stack:
        stack.enter_context(bodies.held(ONE))(50)
        assert busy(bodies, ONE, 1)
        stack.enter_context(bodies.held(OTHER))(25)
        assert busy(bodies, OTHER, 1)
        assert not busy(bodies, THIRD, 12)
    assert not busy(bodies, ONE, 50)


def test_a_body_counts_as_it_grows_and_until_it_is_done_with() -> None:
    bodies = LargeBodies(100)
    with bodies.held(ONE) as grow:
        for size in (10, 20, 30):
            grow(size)
        assert not busy(bodies, ONE, 20)
        assert busy(bodies, ONE, 21)
        with pytest.raises(Refusal):
            grow(51)
    assert not busy(bodies, ONE, 50)


def test_usual_batches_find_their_places_taken_before_their_bytes() -> None:
    usual_bytes = 200 * KB  # 1,000 messages of one segment
    lone_bytes = BODIES_MAX_BYTES // 2
    assert lone_bytes >= BATCHES_MAX // 2 * usual_bytes
    assert lone_bytes >= 2 * BATCH_MAX_BYTES


def test_what_is_made_of_bodies_fits_into_a_pod() -> None:
    # The worst: ASCII of one byte each, that one emoji makes four bytes each.
    texts = ["x" * 2_000 + "\N{GRINNING FACE}"] * 100
    body = msgspec.json.encode(texts)
    decoded_bytes = sum(map(sys.getsizeof, msgspec.json.decode(body)))
    assert 3.9 < decoded_bytes / len(body) < DECODED_TIMES + 0.1
    pod = yaml.safe_load(VALUES.read_text())["api"]["resources"]["limits"]["memory"]
    pod_bytes = int(pod.removesuffix("Mi")) * KB * KB
    assert pod_bytes // 4 >= BODIES_MAX_BYTES * (1 + DECODED_TIMES)


class Pieces:
    """A body that comes piece by piece, and how often it was read; all that is asked of aiohttp's stream."""

    def __init__(self, count: int, piece: bytes) -> None:
        self._left, self._piece = count, piece

    async def readany(self) -> bytes:
        self._left -= 1
        return self._piece

    def at_eof(self) -> bool:
        return not self._left

    is_eof = at_eof


class Posted:
    """What is read of a request."""

    content_length = None

    def __init__(self, count: int, piece: bytes) -> None:
        self.headers: dict[str, str] = {}
        self.content = Pieces(count, piece)


async def test_a_body_of_many_pieces_is_put_together_once() -> None:
    count = BATCH_MAX_BYTES // 64
    took = []
    for _ in range(3):  # of which others may disturb one
        started_at = time.process_time()
        whole = await read_body(Posted(count, b"x" * 64), BATCH_MAX_BYTES)  # type: ignore[arg-type]
        took.append(time.process_time() - started_at)
        assert whole == b"x" * BATCH_MAX_BYTES
    assert min(took) < 1.0  # each piece copied all before it: 5 s and more


async def test_only_what_lies_beyond_a_usual_body_is_told() -> None:
    told: list[int] = []
    piece = b"x" * (BODY_MAX_BYTES // 2)
    for count in (1, 2, 4):
        await read_body(Posted(count, piece), BATCH_MAX_BYTES, grow=told.append)  # type: ignore[arg-type]
    assert told == [3 * len(piece), 4 * len(piece)]


async def test_a_body_that_finds_no_room_is_read_no_further() -> None:
    bodies, posted = LargeBodies(8 * BODY_MAX_BYTES), Posted(20, b"x" * BODY_MAX_BYTES)
    with bodies.held(ONE) as grow, pytest.raises(Refusal) as caught:
        await read_body(posted, BATCH_MAX_BYTES, grow=grow)  # type: ignore[arg-type]
    assert caught.value.code is ProblemCode.BUSY
    assert not posted.content.at_eof()
