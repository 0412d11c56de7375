"""The table of operations: every method of every path, who may call it, and what it may refuse with."""

from typing import Any, Final

from api import (
    account,
    admin_carriers,
    admin_clients,
    admin_keys,
    admin_money,
    admin_reads,
    batch,
    callback,
    message_reads,
    messages,
    probes,
    replay,
)
from api.routing import BATCH_MAX_BYTES, Operation, operation
from shared.domain.problems import ProblemCode as Code

# What a message can be refused with before anything is held.
UNSENDABLE: Final = (
    Code.INVALID_NUMBER,
    Code.TEXT_TOO_LONG,
    Code.TEXT_NOT_STORABLE,
    Code.NO_RATE,
    Code.NO_ROUTE,
    Code.SENDER_NOT_ALLOWED,
    Code.DESTINATION_NOT_ALLOWED,
)

_CREATES: Final[dict[str, Any]] = {"status": 201, "problems": (Code.ALREADY_EXISTS,)}
_POSTS: Final[dict[str, Any]] = {"problems": (Code.REFERENCE_CONFLICT,)}
_REPLAYS: Final[dict[str, Any]] = {
    "status": 202,
    "problems": (
        Code.NOT_FOUND,
        Code.ALREADY_DELIVERED,
        Code.CLIENT_SUSPENDED,
        *UNSENDABLE,
        Code.INSUFFICIENT_CREDIT,
        Code.CALLBACK_NOT_ALLOWED,
    ),
}

_LIVE: Final[dict[str, Any]] = {"is_live_only": True}
_LIVE_ENDPOINT: Final[dict[str, Any]] = {"problems": (Code.NOT_FOUND,), **_LIVE}

MESSAGES: Final = (
    operation(
        "POST",
        "/v1/messages",
        messages.send_message,
        tag="message",
        scope="messages:send",
        status=202,
        is_idempotent=True,
        is_spending=True,
        problems=(
            *UNSENDABLE,
            Code.INSUFFICIENT_CREDIT,
            Code.MAX_PRICE_EXCEEDED,
            Code.CALLBACK_NOT_ALLOWED,
        ),
    ),
    operation(
        "POST",
        "/v1/messages/batch",
        batch.send_batch,
        tag="message",
        scope="messages:send",
        status=202,
        is_idempotent=True,
        is_spending=True,
        bytes_max=BATCH_MAX_BYTES,
    ),
    operation(
        "POST",
        "/v1/messages/preview",
        messages.preview_message,
        tag="message",
        scope="messages:send",
        is_question=True,
        problems=UNSENDABLE,
    ),
    operation("GET", "/v1/messages", message_reads.list_messages, tag="message", scope="messages:read"),
    operation("GET", "/v1/messages/{id}", message_reads.get_message, tag="message", scope="messages:read"),
    operation(
        "DELETE",
        "/v1/messages/{id}",
        message_reads.cancel_message,
        tag="message",
        scope="messages:send",
        problems=(Code.ALREADY_SENDING, Code.ALREADY_FINAL),
    ),
)

ACCOUNT: Final = (
    operation("GET", "/v1/balance", account.get_balance, tag="account", scope="balance:read"),
    operation("GET", "/v1/ledger", account.get_statement, tag="account", scope="balance:read"),
)

CALLBACKS: Final = tuple(
    operation(method, path, handler, tag="callback", scope="callbacks:manage", **options)
    for method, path, handler, options in (
        ("GET", "/v1/callback", callback.get_callback, {"problems": (Code.NOT_FOUND,)}),
        ("PUT", "/v1/callback", callback.put_callback, {"other_statuses": (201,), **_LIVE}),
        ("POST", "/v1/callback/rotate", callback.rotate_callback_secret, _LIVE_ENDPOINT),
        ("POST", "/v1/callback/test", callback.test_callback, {"status": 202, **_LIVE_ENDPOINT}),
        ("GET", "/v1/callback/attempts", callback.list_callback_attempts, {}),
        ("POST", "/v1/callback/replay", callback.replay_callbacks, _LIVE_ENDPOINT),
    )
)

OPERATORS: Final = tuple(
    operation(method, f"/admin/v1/{path}", handler, tag=tag, scope="admin", **options)
    for method, path, handler, tag, options in (
        ("POST", "clients", admin_clients.create_client, "client", _CREATES),
        ("GET", "clients", admin_clients.list_clients, "client", {}),
        ("GET", "clients/{name}", admin_clients.get_client, "client", {}),
        ("PATCH", "clients/{name}", admin_clients.change_client, "client", {}),
        ("GET", "clients/{name}/keys", admin_keys.list_keys, "client", {}),
        ("POST", "clients/{name}/credit", admin_money.post_credit, "credit", _POSTS),
        ("POST", "keys", admin_keys.create_key, "client", {"status": 201, "problems": (Code.NOT_FOUND,)}),
        ("GET", "keys", admin_keys.list_operator_keys, "client", {}),
        ("DELETE", "keys/{key_id}", admin_keys.revoke_key, "client", {}),
        ("GET", "rates", admin_money.list_rates, "credit", {"problems": (Code.NOT_FOUND,)}),
        ("PUT", "rates", admin_money.set_rates, "credit", {"problems": (Code.NOT_FOUND,)}),
        ("GET", "carriers", admin_carriers.list_carriers, "carrier", {}),
        (
            "PUT",
            "carriers/{name}",
            admin_carriers.put_carrier,
            "carrier",
            {"problems": (Code.CHANGED_MEANWHILE,)},
        ),
        ("GET", "routes", admin_carriers.list_routes, "carrier", {}),
        ("PUT", "routes", admin_carriers.put_route, "carrier", {"problems": (Code.NOT_FOUND,)}),
        ("GET", "dead-letters", admin_reads.list_dead_letters, "dead letter", {}),
        ("POST", "dead-letters/{id}/replay", replay.replay_dead_letter, "dead letter", _REPLAYS),
        ("GET", "audit", admin_reads.list_audit, "client", {}),
    )
)

SERVICE: Final = (
    operation("GET", "/v1/errors", probes.list_errors, tag="service", scope=None),
    operation("GET", "/healthz", probes.get_liveness, tag="service", scope=None, is_limited=False),
    operation(
        "GET",
        "/readyz",
        probes.get_readiness,
        tag="service",
        scope=None,
        is_limited=False,
        other_statuses=(503,),
    ),
)

OPERATIONS: Final[tuple[Operation, ...]] = (*MESSAGES, *ACCOUNT, *CALLBACKS, *OPERATORS, *SERVICE)
