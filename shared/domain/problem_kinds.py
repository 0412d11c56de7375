"""The dictionary of what the API refuses and why: data, without a word of HTTP (DESIGN 5, RULES 10).

``api/problems.py`` chooses the HTTP status of each code; ``/v1/errors``, ``/docs/errors`` and
``docs/errors.md`` are made from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.domain.problems import ProblemCode


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One line of the dictionary.

    ``detail`` is the sentence of an answer, with its arguments in braces; a sentence given with the
    refusal replaces it. ``remembered`` says that the refusal stands under its Idempotency-Key.
    ``repeatable`` says that the same request may succeed later without being changed.
    """

    code: ProblemCode
    title: str
    detail: str
    remedy: str
    remembered: bool = False
    repeatable: bool = False


_C = ProblemCode

_KINDS = (
    ProblemKind(
        _C.MALFORMED_REQUEST,
        "This is not HTTP",
        "The request could not be read as HTTP/1.1: {reason}",
        "Use an HTTP library; a line or header may have at most 8,190 bytes.",
    ),
    ProblemKind(
        _C.INVALID_JSON,
        "The body is not JSON",
        "The body could not be read as JSON: {reason}",
        "Send one UTF-8 JSON object. Where one byte is to blame the answer names it, counted from 0.",
    ),
    ProblemKind(
        _C.INVALID_IDEMPOTENCY_KEY,
        "The Idempotency-Key is not valid",
        "{reason}",
        "Use 1 to 255 visible ASCII characters, bare or in double quotes.",
    ),
    ProblemKind(
        _C.UNAUTHORIZED,
        "No valid API key",
        "Send a valid API key in the header X-API-Key.",
        "The key is absent, mistyped, expired or revoked; the answer never says which.",
    ),
    ProblemKind(
        _C.INSUFFICIENT_CREDIT,
        "Not enough credit",
        "The message costs {price} {currency} and {available} {currency} is available. "
        "Under an Idempotency-Key this refusal stays: after a top-up send with a new key.",
        "Top up, then send with another Idempotency-Key: an old one-time password must not go out late.",
        remembered=True,
    ),
    ProblemKind(
        _C.MAX_PRICE_EXCEEDED,
        "The price is above max_price",
        "The message costs {price} {currency}, more than its max_price of {max_price} {currency}.",
        "Raise max_price or shorten the text; the preview shows segments and price.",
        remembered=True,
    ),
    ProblemKind(
        _C.FORBIDDEN,
        "The key may not do this",
        "This needs a key with the scope {scope}.",
        "Use a key that has the scope named in the answer; to change the callback endpoint, a live key.",
    ),
    ProblemKind(
        _C.ADDRESS_NOT_ALLOWED,
        "The key may not be used from this address",
        "This key may not be used from {address}.",
        "Call from an address on the key's list, or have the list changed.",
    ),
    ProblemKind(
        _C.CLIENT_SUSPENDED,
        "The client is suspended",
        "Sending is suspended for this client; reading still works.",
        "Ask the operator. Nothing was held or sent by this request; what its key accepted before stands.",
        repeatable=True,
    ),
    ProblemKind(
        _C.SENDER_NOT_ALLOWED,
        "The sender is not allowed",
        "This client may not send as {sender}.",
        "Use one of the client's senders, or leave `from` out to use the default one.",
        remembered=True,
    ),
    ProblemKind(
        _C.DESTINATION_NOT_ALLOWED,
        "The destination is not allowed",
        "This client may not send to the region {region}.",
        "Ask the operator to allow the region.",
        remembered=True,
    ),
    ProblemKind(
        _C.CALLBACK_NOT_ALLOWED,
        "The callback's host is not registered",
        "callback_url may only name a host that an operator registered for this client.",
        "Register the host with the operator, or leave callback_url out to use the client's endpoint.",
    ),
    ProblemKind(
        _C.NOT_FOUND,
        "Nothing here",
        "There is no {what}, or none that this key may see.",
        "Check the path and the id. What belongs to another client is not found either.",
    ),
    ProblemKind(
        _C.METHOD_NOT_ALLOWED,
        "The method is not allowed here",
        "This path answers to {allowed}.",
        "Use a method named in the Allow header.",
    ),
    ProblemKind(
        _C.NOT_ACCEPTABLE,
        "Only JSON is spoken here",
        "The answer would be application/json, which the Accept header rules out.",
        "Send Accept: application/json, or no Accept header.",
    ),
    ProblemKind(
        _C.IDEMPOTENCY_CONFLICT,
        "The first request is still in flight",
        "A request with this Idempotency-Key is still being decided.",
        "Send the same request again after Retry-After; it gets the first one's answer.",
        repeatable=True,
    ),
    ProblemKind(
        _C.ALREADY_SENDING,
        "The message is with the carrier",
        "The message is {status}: it can no longer be cancelled.",
        "Nothing can be done: the carrier has it, or may have it.",
    ),
    ProblemKind(
        _C.ALREADY_FINAL,
        "The message is final",
        "The message is {status}: its state does not change any more.",
        "Nothing needs to be done.",
    ),
    ProblemKind(
        _C.ALREADY_DELIVERED,
        "The message was delivered after all",
        "A receipt says that the message was delivered: itself, what it replays, or another replay of the "
        "same. This replay was not sent.",
        "Nothing needs to be done: the phone has it. The list of dead letters says whether it was charged.",
    ),
    ProblemKind(
        _C.ALREADY_EXISTS,
        "The name is taken",
        "There is already a {what} with this name.",
        "Choose another name, or change the one that exists.",
    ),
    ProblemKind(
        _C.REFERENCE_CONFLICT,
        "The reference was used for something else",
        "The reference {reference} was used on this account for another operation or amount.",
        "Repeat exactly what was asked first to get its answer, or use a new reference.",
    ),
    ProblemKind(
        _C.CHANGED_MEANWHILE,
        "Somebody else has changed it",
        "The {what} is not any more what the version in the request was shown for.",
        "Look at it again, and change what it is now.",
    ),
    ProblemKind(
        _C.PAYLOAD_TOO_LARGE,
        "The body is too large",
        "The body may have at most {bytes_max} bytes.",
        "Send less at once; a batch may be split.",
    ),
    ProblemKind(
        _C.UNSUPPORTED_MEDIA_TYPE,
        "The body is not declared as JSON",
        "Send the body with Content-Type: application/json.",
        "Set the header Content-Type: application/json, without a Content-Encoding.",
    ),
    ProblemKind(
        _C.VALIDATION_FAILED,
        "The request is not valid",
        "{summary}",
        "`errors` names each bad field and says what would be right. Nothing was done.",
    ),
    ProblemKind(
        _C.INVALID_NUMBER,
        "The number is not valid",
        "{reason}",
        "Write the number in E.164 with a leading +, as in +4915112345678.",
    ),
    ProblemKind(
        _C.TEXT_TOO_LONG,
        "The text is too long",
        "{reason}",
        "Shorten the text; nothing is ever cut off. The preview counts segments.",
    ),
    ProblemKind(
        _C.TEXT_NOT_STORABLE,
        "The text has characters that cannot be stored",
        "{reason}",
        "Remove U+0000.",
    ),
    ProblemKind(
        _C.NO_RATE,
        "There is no price for this destination",
        "There is no rate for {to} in {currency}.",
        "Ask the operator for a rate for this destination.",
        repeatable=True,
    ),
    ProblemKind(
        _C.NO_ROUTE,
        "There is no carrier for this destination",
        "No carrier is configured that carries messages to the region {region}.",
        "Ask the operator for a route to this destination.",
        repeatable=True,
    ),
    ProblemKind(
        _C.IDEMPOTENCY_MISMATCH,
        "The Idempotency-Key was used for another request",
        "This Idempotency-Key was used in the last 72 hours for another request.",
        "Use a new key for a new request; repeat a request exactly to get its first answer.",
    ),
    ProblemKind(
        _C.TOO_MANY_REQUESTS,
        "Too many requests",
        "The limit of requests is used up; the next one is possible in {retry_after_seconds} s.",
        "Wait for Retry-After and spread requests evenly; a batch carries up to 1,000 messages in one.",
        repeatable=True,
    ),
    ProblemKind(
        _C.INTERNAL_ERROR,
        "Something went wrong here",
        "An unexpected error was recorded under the request id {request_id}.",
        "Send again with the same Idempotency-Key: it is answered once. Tell the operator the request id.",
        repeatable=True,
    ),
    ProblemKind(
        _C.OUTCOME_UNKNOWN,
        "The outcome is not known yet",
        "The request may have been carried out; the database's answer did not arrive.",
        "Send exactly the same again: under the same Idempotency-Key it is done once. Where there is no key, "
        "look first whether it was done (a message by its message_id); docs/api.md says what a repeat does.",
        repeatable=True,
    ),
    ProblemKind(
        _C.BUSY,
        "Too much at once",
        "More work is waiting than can be done in time. Nothing was accepted.",
        "Send the same again after Retry-After.",
        repeatable=True,
    ),
    ProblemKind(
        _C.UNAVAILABLE,
        "The service is not available",
        "The database cannot be reached. Nothing was accepted.",
        "Send the same again after Retry-After. Where the answer names something to mend, mend that first.",
        repeatable=True,
    ),
)

PROBLEMS: Mapping[ProblemCode, ProblemKind] = MappingProxyType({kind.code: kind for kind in _KINDS})
