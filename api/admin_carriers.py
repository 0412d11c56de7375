"""Operators: carriers and routes, in force within a second (RULES 25, 32)."""

import re
from typing import Final

import msgspec

from api.callback import actor_of
from api.carrier_checks import refuse_unusable
from api.carrier_schemas import (
    CarrierList,
    CarrierPath,
    CarrierRequest,
    CarrierShown,
    RouteChanged,
    RouteList,
    RouteQuery,
    RouteRequest,
    RouteShown,
)
from api.cursors import cursor_after, read_place
from api.faults import connected
from api.problems import Refusal
from api.resources import Resources
from api.routing import Call
from shared.domain.problems import ProblemCode
from shared.storage import carriers
from shared.storage.carriers import (
    CarrierChanged,
    CarrierRow,
    NoSuchCarrier,
    StoredCarrier,
    carrier_secret_aad,
)

# A route's prefix and priority.
PLACE: Final = re.compile(r"([0-9]{0,15})\.([0-9]{1,3})")


async def list_carriers(resources: Resources, _call: Call) -> CarrierList:
    """List carriers.

    With their settings, never with their secrets.
    """
    async with resources.pool.acquire() as connection:
        return CarrierList([_shown(one) for one in await carriers.list_carriers(connection)])


async def put_carrier(
    resources: Resources, call: Call, *, path: CarrierPath, body: CarrierRequest
) -> CarrierShown:
    """Set a carrier.

    Makes the carrier of this name, or makes it what the body says. Its secret is stored sealed and never
    shown; left out, it stays. What no process could open is refused with each field, and nothing changes.
    With the `version` that it was shown with, a carrier stays theirs who have changed it, or its secret,
    since.
    """
    fields = msgspec.structs.asdict(body)
    secret, seen, reason = fields.pop("secret"), fields.pop("version"), fields.pop("reason")
    row = CarrierRow(name=path.name, **fields)
    async with connected(resources.pool) as connection, connection.transaction():
        await carriers.lock_carrier(connection, path.name)
        old = await carriers.find_carrier(connection, path.name)
        refuse_unusable(body, old, resources.keyring)
        # What is stored already is not put again: a repeat changes nothing.
        if secret is not None and old is not None and old.opens_to(secret, resources.keyring):
            secret = None
        try:
            stored = await carriers.put_carrier(
                connection, row, actor_of(call), reason, seen=seen, is_new_secret=secret is not None
            )
        except CarrierChanged:
            raise Refusal(ProblemCode.CHANGED_MEANWHILE, what="carrier") from None
        if secret is not None:
            sealed = resources.keyring.seal(secret.encode(), carrier_secret_aad(stored.id))
            await carriers.put_secret(connection, stored, sealed, actor_of(call), reason)
        return _shown(await carriers.stored_carrier(connection, path.name))


async def list_routes(resources: Resources, _call: Call, *, query: RouteQuery) -> RouteList:
    """List routes.

    The longest prefix of a number decides, then the lowest priority.
    """
    after = ("", 0) if query.cursor is None else _place(query.cursor)
    async with resources.pool.acquire() as connection:
        found = await carriers.list_routes(connection, after=after, limit=query.limit)
    is_full = len(found) == query.limit
    return RouteList(
        routes=[RouteShown(one.prefix, one.priority, one.carrier) for one in found],
        next_cursor=cursor_after(found[-1].prefix, found[-1].priority) if is_full else None,
    )


def _place(cursor: str) -> tuple[str, int]:
    prefix, priority = read_place(cursor, PLACE)
    return prefix, int(priority)


async def put_route(resources: Resources, call: Call, *, body: RouteRequest) -> RouteChanged:
    """Set a route.

    `carrier: null` removes it.
    """
    by = actor_of(call)
    async with connected(resources.pool) as connection:
        if body.carrier is None:
            changed = await carriers.remove_route(connection, body.prefix, body.priority, by, body.reason)
            return RouteChanged(route=None, removed=changed)
        try:
            await carriers.put_route(connection, body.prefix, body.priority, body.carrier, by, body.reason)
        except NoSuchCarrier:
            raise Refusal(ProblemCode.NOT_FOUND, what=f"carrier {body.carrier}") from None
    return RouteChanged(RouteShown(body.prefix, body.priority, body.carrier), removed=False)


def _shown(stored: StoredCarrier) -> CarrierShown:
    row = stored.row
    return CarrierShown(
        id=stored.id,
        name=row.name,
        kind=row.kind,
        settings=row.settings,
        enabled=row.enabled,
        is_simulator=row.is_simulator,
        idempotent_submit=row.idempotent_submit,
        can_query=row.can_query,
        splits_parts=row.splits_parts,
        rate_per_second=row.rate_per_second,
        window_max=row.window_max,
        submit_deadline_seconds=row.submit_deadline_seconds,
        no_receipt_policy=row.no_receipt_policy,
        receipt_wait_seconds=row.receipt_wait_seconds,
        no_receipt_seconds=row.no_receipt_seconds,
        has_secret=stored.secret_sealed is not None,
        version=stored.version,
    )
