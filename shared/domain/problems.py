"""The stable words for what the API refuses: codes alone, without a word of HTTP (DESIGN 5, RULES 10).

``problem_kinds.py`` says of each what it means, ``api/problems.py`` chooses its HTTP status. A code never
changes its meaning; new ones may come.
"""

from enum import StrEnum


class ProblemCode(StrEnum):
    """The stable word for a refusal; programs decide by it."""

    MALFORMED_REQUEST = "malformed_request"
    INVALID_JSON = "invalid_json"
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    UNAUTHORIZED = "unauthorized"
    INSUFFICIENT_CREDIT = "insufficient_credit"
    MAX_PRICE_EXCEEDED = "max_price_exceeded"
    FORBIDDEN = "forbidden"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    CLIENT_SUSPENDED = "client_suspended"
    SENDER_NOT_ALLOWED = "sender_not_allowed"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"
    CALLBACK_NOT_ALLOWED = "callback_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ALREADY_SENDING = "already_sending"
    ALREADY_FINAL = "already_final"
    ALREADY_DELIVERED = "already_delivered"
    ALREADY_EXISTS = "already_exists"
    REFERENCE_CONFLICT = "reference_conflict"
    CHANGED_MEANWHILE = "changed_meanwhile"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    VALIDATION_FAILED = "validation_failed"
    INVALID_NUMBER = "invalid_number"
    TEXT_TOO_LONG = "text_too_long"
    TEXT_NOT_STORABLE = "text_not_storable"
    NO_RATE = "no_rate"
    NO_ROUTE = "no_route"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL_ERROR = "internal_error"
    OUTCOME_UNKNOWN = "outcome_unknown"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
