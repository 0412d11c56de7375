"""Operators: credit and rates (RULES 14, 25)."""

import re
from collections.abc import Mapping
from typing import Final

from api.admin_clients import no_client, refuse_unknown_currency
from api.admin_schemas import ClientPath
from api.callback import actor_of
from api.cursors import cursor_after, read_place
from api.faults import connected
from api.ledger_schemas import (
    CreditPosted,
    CreditRequest,
    RatePage,
    RateQuery,
    RatesChanged,
    RateShown,
    RatesRequest,
)
from api.problems import Refusal, invalid_field
from api.resources import Resources
from api.routing import Call
from api.schemas import time_text
from shared.domain.money import MoneyFormatError, MoneyOutOfRange, format_micros, parse_micros
from shared.domain.problems import ProblemCode
from shared.domain.rates import InvalidRate, Rate
from shared.storage import credit, rates
from shared.storage.clients import NoSuchClient
from shared.storage.credit import AccountOutOfRange, CreditKind, ImpossibleAmount, ReferenceConflict

# A rate's currency and prefix.
PLACE: Final = re.compile(r"([A-Z]{3})\.([0-9]{0,15})")
# Which amounts ledger.post_credit_v1 takes.
POSSIBLE: Final[Mapping[CreditKind, str]] = {
    "top_up": "must be above 0; to take credit away is an adjustment",
    "adjustment": "must be above or below 0",
    "credit_limit": "must be 0 or above",
}
IN_RANGE: Final = (
    "must leave the balance between -1,000,000,000,000 and 1,000,000,000,000, and a limit no higher"
)


async def post_credit(
    resources: Resources, call: Call, *, path: ClientPath, body: CreditRequest
) -> CreditPosted:
    """Post credit.

    A top-up, an adjustment or a new credit limit, once for each `reference`. The same reference again is
    answered again (`replayed`); with another amount it is a 409.
    """
    amount_micros = _micros("amount", body.amount)
    try:
        async with connected(resources.pool) as connection:
            posted = await credit.post_credit(
                connection, path.name, body.kind, amount_micros, body.reference, actor_of(call), body.reason
            )
    except NoSuchClient:
        raise no_client(path.name) from None
    except ReferenceConflict:
        raise Refusal(ProblemCode.REFERENCE_CONFLICT, reference=body.reference) from None
    except ImpossibleAmount:
        raise invalid_field("amount", POSSIBLE[body.kind]) from None
    except AccountOutOfRange:
        raise invalid_field("amount", IN_RANGE) from None
    return CreditPosted(
        replayed=posted.is_replay,
        entry_version=posted.version,
        posted=format_micros(posted.posted_micros),
        held=format_micros(posted.held_micros),
        available=format_micros(posted.available_micros),
        credit_limit=format_micros(posted.credit_limit_micros),
        currency=posted.currency,
        at=time_text(posted.at),
    )


async def set_rates(resources: Resources, call: Call, *, body: RatesRequest) -> RatesChanged:
    """Set rates.

    They come into force together, for a client or for everybody. A rate with a `price` of null ends. Old
    rates stay readable: each message names its `rate_version`.
    """
    prefixes = [line.prefix for line in body.rates]
    if len(set(prefixes)) != len(prefixes):
        raise invalid_field("rates", "must name each prefix once")
    if any(line.price is not None for line in body.rates):  # what was set once can always be ended
        refuse_unknown_currency(body.currency)
    ended = [line.prefix for line in body.rates if line.price is None]
    added = [
        _rate(f"rates[{index}]", line.prefix, line.price, body.currency)
        for index, line in enumerate(body.rates)
        if line.price is not None
    ]
    try:
        async with connected(resources.pool) as connection, connection.transaction():
            changed = await rates.set_rates(connection, body.client, added, actor_of(call), body.reason)
            if ended:
                changed += await rates.remove_rates(
                    connection, body.client, body.currency, ended, actor_of(call), body.reason
                )
    except NoSuchClient:
        raise no_client(body.client) from None
    return RatesChanged(changed)


async def list_rates(resources: Resources, _call: Call, *, query: RateQuery) -> RatePage:
    """List rates.

    Those in force for a client, or the list for everybody, by currency and prefix.
    """
    after = ("", "") if query.cursor is None else _place(query.cursor)
    try:
        async with resources.pool.acquire() as connection:
            found = await rates.list_rates(
                connection, query.client, prefix=query.prefix, after=after, limit=query.limit
            )
    except NoSuchClient:
        raise no_client(query.client) from None
    is_full = len(found) == query.limit
    return RatePage(
        rates=[
            RateShown(
                client=one.client,
                prefix=one.prefix,
                price=format_micros(one.price_micros),
                currency=one.currency,
                since_version=one.since_version,
                created_at=time_text(one.created_at),
            )
            for one in found
        ],
        next_cursor=cursor_after(found[-1].currency, found[-1].prefix) if is_full else None,
    )


def _rate(field: str, prefix: str, price: str, currency: str) -> Rate:
    try:
        return Rate(prefix, _micros(f"{field}.price", price), currency)
    except InvalidRate as error:
        raise invalid_field(field, str(error)) from None


def _micros(field: str, text: str) -> int:
    try:
        return parse_micros(text)
    except (MoneyFormatError, MoneyOutOfRange) as error:
        raise invalid_field(field, str(error)) from None


def _place(cursor: str) -> tuple[str, str]:
    currency, prefix = read_place(cursor, PLACE)
    return currency, prefix
