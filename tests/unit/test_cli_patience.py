"""A job that comes before its server waits for it; whatever else goes wrong is told at once."""

import pytest

from cli.failures import Exit, Failure
from cli.patience import patiently


def test_what_does_not_answer_yet_is_asked_again() -> None:
    answers = iter([Exit.UNREACHABLE, Exit.UNREACHABLE, None])
    pauses: list[float] = []

    def ask() -> str:
        exit_code = next(answers)
        if exit_code is not None:
            raise Failure("no answer", exit_code=exit_code)
        return "there"

    assert patiently(ask, 60.0, pause=pauses.append) == "there"
    assert len(pauses) == 2


@pytest.mark.parametrize(("exit_code", "wait_seconds"), [(Exit.FAILED, 60.0), (Exit.UNREACHABLE, 0.0)])
def test_another_failure_or_the_end_of_the_wait_is_told_at_once(exit_code: Exit, wait_seconds: float) -> None:
    def ask() -> None:
        raise Failure("no", exit_code=exit_code)

    with pytest.raises(Failure, match="no"):
        patiently(ask, wait_seconds, pause=lambda _: pytest.fail("it waited"))
