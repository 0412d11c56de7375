"""What a request is told under whose key something stands already."""

import tracemalloc
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.accept import ROUTE_BATCH
from api.first_answers import Turned, _answer
from api.orders import Sending, fingerprint_of
from api.problems import Refusal
from api.schemas import MessageRequest
from api.store import AcceptAnswer, KeyKnown
from shared.domain.problems import ProblemCode
from shared.domain.segments import characters_max

NOBODY: Any = None


def outcome_of(text: str, first: str) -> str:
    """What a request with this text is told, which would be refused now, when the first one had that text."""
    turned = Turned(0, MessageRequest(to="+49", text=text), Refusal(ProblemCode.INVALID_NUMBER))
    earlier = fingerprint_of(ROUTE_BATCH, MessageRequest(to="+49", text=first), is_test=False)
    known = KeyKnown(UUID(int=1), earlier, None, None, datetime.now(UTC))
    answer = _answer(Sending(NOBODY, is_test=False, idempotency_key="k"), ROUTE_BATCH, turned, known)
    assert isinstance(answer, AcceptAnswer)
    return answer.outcome


def test_a_repeat_is_told_from_another_request() -> None:
    longest = "a" * characters_max()
    assert outcome_of(longest, longest) == "replayed"
    assert outcome_of(longest, "a") == "mismatch"
    assert outcome_of(longest + "a", "a") == "mismatch"


def test_a_text_that_never_was_accepted_is_not_read_to_know_that() -> None:
    """A thousand items of a batch have it, and each would be written out and hashed."""
    text = "a" * 2_000_000
    outcome_of("a", "a")
    tracemalloc.start()
    try:
        assert outcome_of(text, "a") == "mismatch"
        assert tracemalloc.get_traced_memory()[1] < len(text) / 10
    finally:
        tracemalloc.stop()
