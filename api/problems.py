"""Refusals on the wire: RFC 9457 ``application/problem+json``, and the one table of HTTP statuses.

``type`` is ``/docs/errors#<code>``, a relative reference (RFC 9457 §3.1.1) that this very service
answers with a page about the code, so that it can be followed wherever the service is installed.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "/docs/errors#"
# A client that is told of more than this many faults at once does not read them.
FIELD_ERRORS_MAX = 20
# What a client waits when the refusal itself knows nothing better.
RETRY_AFTER_DEFAULT_SECONDS = 1

_C = ProblemCode

STATUS: Mapping[ProblemCode, int] = MappingProxyType(
    {
        _C.MALFORMED_REQUEST: 400,
        _C.INVALID_JSON: 400,
        _C.INVALID_IDEMPOTENCY_KEY: 400,
        _C.UNAUTHORIZED: 401,
        _C.INSUFFICIENT_CREDIT: 402,
        _C.MAX_PRICE_EXCEEDED: 402,
        _C.FORBIDDEN: 403,
        _C.ADDRESS_NOT_ALLOWED: 403,
        _C.CLIENT_SUSPENDED: 403,
        _C.SENDER_NOT_ALLOWED: 403,
        _C.DESTINATION_NOT_ALLOWED: 403,
        _C.CALLBACK_NOT_ALLOWED: 403,
        _C.NOT_FOUND: 404,
        _C.METHOD_NOT_ALLOWED: 405,
        _C.NOT_ACCEPTABLE: 406,
        _C.IDEMPOTENCY_CONFLICT: 409,
        _C.ALREADY_SENDING: 409,
        _C.ALREADY_FINAL: 409,
        _C.ALREADY_DELIVERED: 409,
        _C.ALREADY_EXISTS: 409,
        _C.REFERENCE_CONFLICT: 409,
        _C.CHANGED_MEANWHILE: 409,
        _C.PAYLOAD_TOO_LARGE: 413,
        _C.UNSUPPORTED_MEDIA_TYPE: 415,
        _C.VALIDATION_FAILED: 422,
        _C.INVALID_NUMBER: 422,
        _C.TEXT_TOO_LONG: 422,
        _C.TEXT_NOT_STORABLE: 422,
        _C.NO_RATE: 422,
        _C.NO_ROUTE: 422,
        _C.IDEMPOTENCY_MISMATCH: 422,
        _C.TOO_MANY_REQUESTS: 429,
        _C.INTERNAL_ERROR: 500,
        _C.OUTCOME_UNKNOWN: 503,
        _C.BUSY: 503,
        _C.UNAVAILABLE: 503,
    }
)
# These tell the client when to come back, in the body and in Retry-After.
WITH_RETRY_AFTER = frozenset(
    {_C.IDEMPOTENCY_CONFLICT, _C.TOO_MANY_REQUESTS, _C.OUTCOME_UNKNOWN, _C.BUSY, _C.UNAVAILABLE}
)


class FieldError(msgspec.Struct, frozen=True):
    """One bad field of a request."""

    field: Annotated[str, Meta(description="Where: `text`, `messages[3].to`, `query.limit`, `header.X-…`.")]
    detail: Annotated[str, Meta(description="What would be right.")]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details. Decide by `code`; the sentences may change, the codes never do."""

    type: Annotated[
        str,
        Meta(
            description="A page about this code.",
            extra_json_schema={"format": "uri-reference"},
            examples=["/docs/errors#insufficient_credit"],
        ),
    ]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    code: ProblemCode
    errors: Annotated[list[FieldError], Meta(description="Each bad field.")] | UnsetType = UNSET
    retry_after_seconds: Annotated[int, Meta(ge=0, description="The same as Retry-After.")] | UnsetType = (
        UNSET
    )
    message_id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})] | UnsetType = UNSET
    price: Annotated[str, Meta(description="What the message costs.")] | UnsetType = UNSET
    available: Annotated[str, Meta(description="What the account could pay.")] | UnsetType = UNSET
    max_price: str | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    request_id: Annotated[str, Meta(description="Quote it to the operator.")] | UnsetType = UNSET


_EXTENSIONS = ("message_id", "price", "available", "max_price", "currency")
_encode = msgspec.json.Encoder().encode
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Refusal(Exception):  # noqa: N818 - the field's word: a request is refused, the service did not err
    """A request is answered with a problem instead of a result.

    Arguments fill the dictionary's sentence; those that are members of ``Problem`` are shown as
    members too. ``detail`` replaces the sentence.
    """

    def __init__(
        self,
        code: ProblemCode,
        *,
        detail: str | None = None,
        errors: Iterable[FieldError] = (),
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        **arguments: object,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.arguments = arguments
        if retry_after_seconds is None and code in WITH_RETRY_AFTER:
            retry_after_seconds = RETRY_AFTER_DEFAULT_SECONDS
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(retry_after_seconds)

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return STATUS[self.code]

    def problem(self, request_id: str | None = None) -> Problem:
        """The body, with the id under which the request can be found in the logs."""
        kind = PROBLEMS[self.code]
        shown = {name: str(self.arguments[name]) for name in _EXTENSIONS if name in self.arguments}
        return Problem(
            type=TYPE_BASE + self.code,
            title=kind.title,
            status=STATUS[self.code],
            detail=self.detail or self._sentence(kind.detail, request_id),
            code=self.code,
            errors=list(self.errors[:FIELD_ERRORS_MAX]) or UNSET,
            retry_after_seconds=UNSET if self.retry_after_seconds is None else self.retry_after_seconds,
            request_id=request_id or UNSET,
            **shown,
        )

    def body(self, request_id: str) -> bytes:
        """The body as JSON."""
        return _encode(self.problem(request_id))

    def _sentence(self, template: str, request_id: str | None) -> str:
        known = {**self.arguments, "retry_after_seconds": self.retry_after_seconds, "request_id": request_id}

        def fill(match: re.Match[str]) -> str:
            value = known.get(match[1])
            return "?" if value is None else str(value)

        return _PLACEHOLDER.sub(fill, template)


def invalid(errors: Iterable[FieldError]) -> Refusal:
    """The refusal of a request with bad fields, each named."""
    errors = tuple(errors)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Refusal(
        ProblemCode.VALIDATION_FAILED, summary=f"{first.field}: {first.detail}{more}", errors=errors
    )


def invalid_field(field: str, detail: str) -> Refusal:
    """The refusal of a request with one bad field."""
    return invalid([FieldError(field, detail)])
