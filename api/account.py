"""The client's money, as it stands and as it came about: GET /v1/balance and GET /v1/ledger."""

from datetime import datetime

from asyncpg import Record

from api import reads
from api.problems import Refusal, invalid_field
from api.read_schemas import Balance, Entry, Statement, StatementQuery
from api.reader import NotThereYet, Source
from api.resources import Resources
from api.routing import Call
from api.schemas import time_text
from shared.domain.money import format_micros
from shared.domain.problems import ProblemCode
from shared.storage.clients import ClientAccount

# A version is a bigint; more digits are no version.
VERSION_DIGITS_MAX = 18


async def get_balance(resources: Resources, call: Call) -> Balance:
    """Get the balance.

    One snapshot: `available` = `posted` - `held` + `credit_limit`. It holds all that was done by `as_of`,
    which may be some seconds ago where a replica answers.
    """

    async def found(source: Source) -> Balance:
        return balance_of(await _account(source, call.client.id), source.as_of)

    async with resources.places.reads.place(call.client.id):
        return await resources.reader.read(found)


async def get_statement(resources: Resources, call: Call, *, query: StatementQuery) -> Statement:
    """List the journal.

    Newest first. Each entry carries the balance after it; versions have no gaps and no entry ever changes.
    """

    async def page(source: Source) -> Statement:
        return await _statement(source, call.client.id, query)

    async with resources.places.reads.place(call.client.id):
        return await resources.reader.read(page)


async def _statement(source: Source, client_id: int, query: StatementQuery) -> Statement:
    account = await _account(source, client_id)
    before = account["version"] + 1 if query.cursor is None else _read_cursor(query.cursor)
    narrow = reads.EntryFilter(before, query.kind, query.since, query.until)
    rows, reached = await reads.list_entries(source.pool, client_id, narrow, query.limit)
    return Statement(
        currency=account["currency"],
        entries=[_entry(row) for row in rows],
        next_cursor=None if reached is None else str(reached),
    )


def balance_of(row: Record, as_of: datetime | None = None) -> Balance:
    """A row of ``reads.get_balance`` as it is shown; ``as_of``: when it was so, else the row's own."""
    return Balance(
        posted=format_micros(row["posted_micros"]),
        held=format_micros(row["held_micros"]),
        available=format_micros(row["available_micros"]),
        credit_limit=format_micros(row["credit_limit_micros"]),
        currency=row["currency"],
        open_holds=row["open_holds"],
        as_of=time_text(as_of or row["as_of"]),
    )


def balance_of_account(account: ClientAccount, as_of: datetime) -> Balance:
    """A client's account as operators see it."""
    return Balance(
        posted=format_micros(account.posted_micros),
        held=format_micros(account.held_micros),
        available=format_micros(account.available_micros),
        credit_limit=format_micros(account.credit_limit_micros),
        currency=account.currency,
        open_holds=account.open_holds,
        as_of=time_text(as_of),
    )


async def _account(source: Source, client_id: int) -> Record:
    row = await reads.get_balance(source.pool, client_id)
    if row is None and source.as_of is not None:
        raise NotThereYet  # an account that was opened just now
    if row is None:
        raise Refusal(ProblemCode.NOT_FOUND, what="account")
    return row


def _entry(row: Record) -> Entry:
    return Entry(
        version=row["version"],
        at=time_text(row["at"]),
        kind=row["kind"],
        amount=format_micros(row["amount_micros"]),
        message_id=row["message_id"],
        posted_after=format_micros(row["posted_after_micros"]),
        held_after=format_micros(row["held_after_micros"]),
        reference=row["reference"],
        reason=row["reason"],
    )


def _read_cursor(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > VERSION_DIGITS_MAX:
        raise invalid_field("query.cursor", "must be a cursor that a page gave")
    return int(text)
