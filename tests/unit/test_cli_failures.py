"""What a command that failed says."""

from api.problems import FieldError, Problem, Refusal, invalid
from cli.failures import Failure, Refused
from shared.domain.problems import ProblemCode


def shown(problem: Problem, capsys) -> list[str]:
    Refused(problem).show(as_json=False)
    return [line.strip() for line in capsys.readouterr().err.splitlines()]


def test_a_sentence_is_shown_once_though_the_problem_says_it_of_its_field_too(capsys):
    why = "no country has a code that +999 begins with"
    refusal = Refusal(ProblemCode.INVALID_NUMBER, reason=why, errors=[FieldError("to", why)])
    assert shown(refusal.problem(), capsys) == ["The number is not valid", why, "invalid_number (422)"]


def test_each_bad_field_is_shown(capsys):
    lines = shown(
        invalid([FieldError("to", "is required"), FieldError("a", "is not a field here")]).problem(), capsys
    )
    assert lines[1:4] == ["to: is required (and 1 more)", "to: is required", "a: is not a field here"]


def test_what_a_foreign_server_says_is_no_order_to_the_terminal(capsys):
    said = "\x1b]0;owned\x07\x9b2J"
    Failure(said, detail=said, hint=said).show(as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == ["·]0;owned··2J"] * 3
    Failure(said, detail=said).show(as_json=True)
    assert "\x9b" not in capsys.readouterr().err
