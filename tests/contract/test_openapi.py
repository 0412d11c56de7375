"""The OpenAPI document: valid, complete, and true to the types that validate."""

import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.openapi import codes_of, document
from api.operations import OPERATIONS
from api.problems import STATUS
from api.routing import Operation
from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode

DOCUMENT = document(OPERATIONS)
by_name = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def test_the_document_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_the_document_is_the_same_every_time():
    assert msgspec.json.encode(document(OPERATIONS)) == msgspec.json.encode(DOCUMENT)


def test_every_operation_has_a_name_of_its_own():
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert sum(len(item) for item in DOCUMENT["paths"].values()) == len(OPERATIONS)


@by_name
def test_an_operation_names_every_status_it_answers_with(operation):
    told = set(described(operation)["responses"])
    assert told == {
        str(operation.status),
        *(str(status) for status in operation.other_statuses),
        *(str(STATUS[code]) for code in codes_of(operation)),
    }


@by_name
def test_an_operation_with_a_key_documents_limits_and_refusals(operation):
    if operation.scope is None:
        assert "security" not in described(operation)
        return
    assert described(operation)["security"] == [{"ApiKey": [operation.scope]}]
    headers = described(operation)["responses"][str(operation.status)]["headers"]
    assert {"RateLimit", "RateLimit-Policy", "X-Request-Id"} <= set(headers)
    assert {ProblemCode.UNAUTHORIZED, ProblemCode.FORBIDDEN, ProblemCode.TOO_MANY_REQUESTS} <= set(
        codes_of(operation)
    )


@by_name
def test_an_operation_that_changes_something_may_have_done_so_unheard(operation):
    is_change = operation.method != "GET" and operation.name != "preview_message"
    assert (ProblemCode.OUTCOME_UNKNOWN in codes_of(operation)) == is_change


@by_name
def test_an_operation_explains_itself(operation):
    told = described(operation)
    assert 4 < len(told["summary"]) < 40
    assert not told["summary"].endswith(".")
    assert operation.path.count("{") == sum(one["in"] == "path" for one in told.get("parameters", ()))


def test_every_code_of_the_dictionary_is_an_answer_of_some_operation_or_of_the_server():
    told = {code for operation in OPERATIONS for code in codes_of(operation)}
    assert set(ProblemCode) - told == {ProblemCode.METHOD_NOT_ALLOWED}
    assert set(DOCUMENT["components"]["examples"]) == set(PROBLEMS)


def test_requests_refuse_unknown_fields():
    for operation in OPERATIONS:
        for kind in (operation.body, operation.query):
            if kind is not None:
                assert kind.__struct_config__.forbid_unknown_fields, kind


def test_only_to_and_text_are_required_to_send():
    schema = DOCUMENT["components"]["schemas"]["MessageRequest"]
    assert schema["required"] == ["to", "text"]
    assert schema["additionalProperties"] is False


def test_a_query_that_nothing_asks_for_is_refused_but_of_a_probe():
    refused = {
        path
        for path in ("/v1/errors", "/healthz", "/readyz", "/v1/balance")
        if "422" in DOCUMENT["paths"][path]["get"]["responses"]
    }
    assert refused == {"/v1/errors", "/v1/balance"}


def test_the_answer_to_a_message_has_the_promised_members():
    schema = DOCUMENT["components"]["schemas"]["MessageAccepted"]
    assert list(schema["properties"]) == schema["required"]
    assert {"id", "status", "to", "from", "price", "balance", "client_ref", "created_at"} <= set(
        schema["required"]
    )


def test_the_key_that_makes_a_post_safe_to_repeat_is_documented():
    [parameter] = [
        one
        for one in DOCUMENT["paths"]["/v1/messages"]["post"]["parameters"]
        if one["name"] == "Idempotency-Key"
    ]
    assert re.fullmatch(parameter["schema"]["pattern"], parameter["example"])
    answers = DOCUMENT["paths"]["/v1/messages"]["post"]["responses"]
    replayed = {status for status, answer in answers.items() if "Idempotency-Replayed" in answer["headers"]}
    assert replayed == {"202", "402", "403"}, "what is remembered, refusals too"
