"""The OpenAPI 3.1 document, made from the table of operations and the types that validate.

Every answer stands in it, refusals too: which codes an operation can give follows from what it takes
(a key, a body, a query, an Idempotency-Key) and from the codes that its line in the table names.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from api.patterns import schema_as_shown
from api.problems import CONTENT_TYPE, STATUS, WITH_RETRY_AFTER, FieldError, Problem, Refusal
from api.routing import Operation
from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode

_REF: Final = "#/components/schemas/{name}"
_C = ProblemCode

ALWAYS: Final = (_C.MALFORMED_REQUEST, _C.TOO_MANY_REQUESTS, _C.INTERNAL_ERROR)
WITH_KEY: Final = (
    _C.UNAUTHORIZED,
    _C.FORBIDDEN,
    _C.ADDRESS_NOT_ALLOWED,
    _C.NOT_ACCEPTABLE,
    _C.BUSY,
    _C.UNAVAILABLE,
)
WITH_IDEMPOTENCY: Final = (
    _C.INVALID_IDEMPOTENCY_KEY,
    _C.IDEMPOTENCY_CONFLICT,
    _C.IDEMPOTENCY_MISMATCH,
)
WITH_BODY: Final = (_C.INVALID_JSON, _C.VALIDATION_FAILED, _C.UNSUPPORTED_MEDIA_TYPE, _C.PAYLOAD_TOO_LARGE)

TAGS: Final = {
    "message": ("Messages", "Send, preview, read and cancel messages."),
    "account": ("Account", "What is there, what is set aside, and every line of the journal."),
    "callback": ("Callbacks", "Where final states are reported, signed by Standard Webhooks 1.0.0."),
    "client": ("Operators: clients and keys", "Who may send, and with which key. Scope `admin`."),
    "credit": ("Operators: credit and rates", "Top-ups, limits and prices. Scope `admin`."),
    "carrier": ("Operators: carriers and routes", "Who carries what. Scope `admin`."),
    "dead letter": ("Operators: dead letters", "What was given up, and its replay. Scope `admin`."),
    "service": ("Service", "Health, metrics and this document. No key."),
}

DESCRIPTION: Final = """\
Send SMS, pay only for what is delivered, prove every step.

**Keys.** Every call carries `X-API-Key: tw_…`. A key has scopes; keys that start with `tw_test_` never
leave the simulator and cost nothing.

**Idempotency.** Send `Idempotency-Key` with a POST that makes messages. The same key with the same
content gets the first answer again (`Idempotency-Replayed: true`) for 72 hours; with other content 422.
A default that is spelled out is no other content, but a `from` is: the default one may change.

**Refusals** are RFC 9457 problems. Decide by `code`; [the dictionary](/docs/errors) says what each means.

**Limits.** `RateLimit-Policy` and `RateLimit` tell what is left, `Retry-After` when to come back. What was
replayed, or failed for reasons of ours, uses nothing up, nor what was refused, up to as much as the limit
itself.

**Money** is decimal text (`"0.0750"`); times are RFC 3339 in UTC.
"""

HEADERS: Final = {
    "X-Request-Id": ("The id under which the request stands in the logs.", {"type": "string"}),
    "RateLimit-Policy": (
        "The quotas, as in draft-ietf-httpapi-ratelimit-headers.",
        {"type": "string", "examples": ['"default";q=10000;w=60, "burst";q=1000;w=6']},
    ),
    "RateLimit": (
        "What is left at once (`r`) and in how many seconds all is back (`t`).",
        {"type": "string", "examples": ['"burst";r=999;t=1']},
    ),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 0}),
    "Idempotency-Replayed": ("`true` when an earlier request had this answer.", {"const": "true"}),
    "WWW-Authenticate": ("How to authenticate.", {"type": "string"}),
}


# Where a body's required fields alone make no example.
BODIES: Final = {
    "send_batch": {
        "messages": [
            {"to": "+4915112345678", "text": "Your parcel arrives today", "client_ref": "parcel-1"},
            {"to": "+33612345678", "text": "Votre colis arrive aujourd'hui", "client_ref": "parcel-2"},
        ]
    },
    "rotate_callback_secret": {"grace_seconds": 86_400},
    "replay_callbacks": {"since": "2026-11-21T10:00:00Z"},
    "change_client": {"suspended": True, "reason": "invoice 17 is overdue"},
}
# What examples of problems say.
ARGUMENTS: Final = {
    "reason": "it ends too early (byte 44)",
    "price": "0.0750",
    "available": "0.0200",
    "max_price": "0.0500",
    "currency": "EUR",
    "scope": "messages:send",
    "address": "203.0.113.7",
    "sender": "ACME",
    "region": "DE",
    "to": "+4915112345678",
    "what": "message",
    "allowed": "GET, HEAD",
    "status": "SENT",
    "reference": "invoice-17",
    "bytes_max": "65536",
    "summary": "to: is required",
}
BAD_FIELDS: Final = {
    _C.VALIDATION_FAILED: FieldError("to", "is required"),
    _C.INVALID_NUMBER: FieldError("to", "no country has a code that +999 begins with"),
    _C.TEXT_TOO_LONG: FieldError("text", "the text needs 13 segments as UCS2, at most 10 may be sent"),
    _C.TEXT_NOT_STORABLE: FieldError("text", "the text holds U+0000"),
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document of these operations."""
    shown = [operation for operation in operations if operation.tag in TAGS]
    types = {kind for operation in shown for kind in (operation.body, operation.answer) if _is_json(kind)}
    ordered = [*sorted(types, key=str), Problem]
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    schemas, components = schema_as_shown(list(schemas)), schema_as_shown(components)
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in shown:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollwire",
            "version": version("tollwire"),
            "summary": "An SMS gateway with a ledger that cannot lose a cent",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": title, "description": text} for title, text in TAGS.values()],
        "paths": paths,
        "components": {
            "schemas": components,
            "examples": {
                str(code): {"summary": kind.title, "value": _example(code)} for code, kind in PROBLEMS.items()
            },
            "headers": {
                name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()
            },
            "securitySchemes": {"ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def codes_of(operation: Operation) -> list[ProblemCode]:
    """Every code that an operation can answer with, by status."""
    codes = {*operation.problems, *ALWAYS}
    if not operation.is_limited:
        codes.remove(_C.TOO_MANY_REQUESTS)
    if operation.scope is not None:
        codes.update(WITH_KEY)
    if operation.is_change:
        codes.add(_C.OUTCOME_UNKNOWN)
    if operation.is_spending:
        codes.add(_C.CLIENT_SUSPENDED)
    if operation.is_idempotent:
        codes.update(WITH_IDEMPOTENCY)
    if operation.body is not None:
        codes.update(WITH_BODY)
    if operation.is_limited:
        codes.add(_C.VALIDATION_FAILED)  # of a query, also where there is none to ask for
    if operation.params is not None and operation.method != "PUT":
        codes.add(_C.NOT_FOUND)
    return sorted(codes, key=lambda code: (STATUS[code], code))


def _operation(operation: Operation, by_type: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [TAGS[operation.tag][0]],
        "summary": operation.summary,
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["security"] = [{"ApiKey": [operation.scope]}]
    parameters = [*_parameters(operation.params, "path"), *_parameters(operation.query, "query")]
    if operation.is_idempotent:
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, Any] = {"application/json": {"schema": by_type[operation.body]}}
        if operation.name in BODIES:
            content["application/json"]["example"] = BODIES[operation.name]
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {**_success(operation, by_type), **_refusals(operation)}
    return described


_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "1 to 255 visible ASCII characters, bare or in double quotes. Kept for 72 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[!-~]+$"},
    "example": "order-1-otp",
}


def _parameters(kind: Any, where: str) -> list[dict[str, Any]]:
    if kind is None:
        return []
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    schema = schema_as_shown(components[kind.__name__])
    parameters = []
    for name, found in schema["properties"].items():
        parameter = {"name": name, "in": where, "required": name in schema.get("required", ())}
        own = {key: value for key, value in found.items() if key != "description"}
        parameter["schema"] = _without_null(own)
        if text := found.get("description") or parameter["schema"].pop("description", None):
            parameter["description"] = text
        parameters.append(parameter)
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query cannot spell null: absent is enough."""
    schema = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    if "enum" in schema:
        return {**schema, "enum": [value for value in schema["enum"] if value is not None]}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return dict(kinds[0]) if len(kinds) == 1 else schema


def _success(operation: Operation, by_type: dict[Any, Any]) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if operation.scope is not None:
        headers += ["RateLimit-Policy", "RateLimit"]
    if operation.is_idempotent:
        headers.append("Idempotency-Replayed")
    answer: dict[str, Any] = {"description": operation.result, "headers": _headers(headers)}
    if _is_json(operation.answer):
        answer["content"] = {"application/json": {"schema": by_type[operation.answer]}}
    elif operation.answer is bytes:
        answer["content"] = {operation.media_type: {"schema": {"type": "string"}}}
    return {str(status): answer for status in (operation.status, *operation.other_statuses)}


def _refusals(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[ProblemCode]] = {}
    for code in codes_of(operation):
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        str(status): _refusal(codes, is_idempotent=operation.is_idempotent)
        for status, codes in by_status.items()
    }


def _refusal(codes: list[ProblemCode], *, is_idempotent: bool) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if is_idempotent and any(PROBLEMS[code].remembered for code in codes):
        headers.append("Idempotency-Replayed")
    if any(code in WITH_RETRY_AFTER for code in codes):
        headers.append("Retry-After")
    if _C.UNAUTHORIZED in codes:
        headers.append("WWW-Authenticate")
    return {
        "description": "; ".join(f"`{code}`: {PROBLEMS[code].title.lower()}" for code in codes),
        "headers": _headers(headers),
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {str(code): {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


def _example(code: ProblemCode) -> Any:
    template = PROBLEMS[code].detail
    told = {name: value for name, value in ARGUMENTS.items() if f"{{{name}}}" in template}
    refusal = Refusal(code)
    if (field := BAD_FIELDS.get(code)) is not None:
        refusal.errors = (field,)
        told = {name: field.detail if name == "reason" else value for name, value in told.items()}
    refusal.arguments.update(told)
    return msgspec.to_builtins(refusal.problem("b7f3c1d29a60e845"))


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _is_json(kind: Any) -> bool:
    return kind is not None and kind is not bytes and kind is not type(None)
