"""The dictionary of refusals and what goes over the wire."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from api.admin_schemas import Scope
from api.error_pages import errors_markdown, errors_page
from api.problems import STATUS, WITH_RETRY_AFTER, Refusal, invalid_field
from shared.domain.api_keys import SCOPES
from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode

ERRORS_MD = Path(__file__).parents[2] / "docs" / "errors.md"


def test_every_code_has_its_line_and_its_status():
    assert set(PROBLEMS) == set(STATUS) == set(ProblemCode)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_what_may_succeed_later_is_what_the_dictionary_says():
    assert all(PROBLEMS[code].repeatable for code in WITH_RETRY_AFTER)
    remembered = {code for code, kind in PROBLEMS.items() if kind.remembered}
    assert remembered == {
        ProblemCode.INSUFFICIENT_CREDIT,
        ProblemCode.MAX_PRICE_EXCEEDED,
        ProblemCode.SENDER_NOT_ALLOWED,
        ProblemCode.DESTINATION_NOT_ALLOWED,
    }


def test_the_document_of_errors_is_in_step_with_the_dictionary():
    assert ERRORS_MD.read_text() == errors_markdown(), "run: python -m api.error_pages > docs/errors.md"


def test_the_type_of_a_problem_leads_to_its_place_on_the_page():
    page = errors_page("<!-- errors -->")
    for code in ProblemCode:
        assert Refusal(code).problem().type == f"/docs/errors#{code}"
        assert f'id="{code}"' in page


def test_a_problem_carries_what_its_sentence_tells():
    refusal = Refusal(ProblemCode.INSUFFICIENT_CREDIT, price="0.0750", available="0.0200", currency="EUR")
    body = msgspec.json.decode(refusal.body("r-1"))
    assert body["detail"].startswith("The message costs 0.0750 EUR and 0.0200 EUR is available.")
    assert (body["price"], body["available"], body["currency"]) == ("0.0750", "0.0200", "EUR")
    assert list(body)[:5] == ["type", "title", "status", "detail", "code"]
    assert (body["status"], body["request_id"]) == (402, "r-1")


def test_arguments_are_not_read_as_templates():
    refusal = Refusal(ProblemCode.SENDER_NOT_ALLOWED, sender="{request_id}{0.__class__}")
    assert "{request_id}{0.__class__}" in refusal.problem("secret").detail


@pytest.mark.parametrize("code", sorted(WITH_RETRY_AFTER))
def test_what_may_be_tried_again_says_when(code):
    refusal = Refusal(code, retry_after_seconds=7)
    assert refusal.headers["Retry-After"] == "7"
    assert refusal.problem().retry_after_seconds == 7
    assert Refusal(code).headers["Retry-After"] == "1"


def test_a_bad_field_is_told_in_words_and_as_data():
    refusal = invalid_field("send_at", "must be at most 30 days ahead")
    assert refusal.problem().detail == "send_at: must be at most 30 days ahead"
    assert refusal.errors[0].field == "send_at"


def test_operators_can_give_every_scope_there_is():
    assert set(get_args(Scope)) == set(SCOPES)
