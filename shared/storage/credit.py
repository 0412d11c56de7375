"""Top-ups, adjustments and credit limits: each once, by its reference (RULES 25)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import asyncpg

from shared.domain.money import format_micros
from shared.runtime.postgres import Connection
from shared.storage.audit import Actor, note
from shared.storage.clients import client_account

CreditKind = Literal["top_up", "adjustment", "credit_limit"]


class ReferenceConflict(Exception):  # noqa: N818 - named for what happened
    """The reference was used on this account for another operation or amount."""


class ImpossibleAmount(ValueError):  # noqa: N818 - named for what happened
    """A top-up adds more than nothing, an adjustment is not nothing, a credit limit is not below zero."""


class AccountOutOfRange(ValueError):  # noqa: N818 - named for what happened
    """The balance, above or below nothing, or the credit limit would be more than a million million."""


@dataclass(frozen=True, slots=True)
class CreditPosted:
    """The account after the operation, in micros; ``is_replay``: it was done before, under this reference."""

    is_replay: bool
    version: int | None
    posted_micros: int
    held_micros: int
    credit_limit_micros: int
    at: datetime
    currency: str

    @property
    def available_micros(self) -> int:
        """What could be spent right after the operation."""
        return self.posted_micros - self.held_micros + self.credit_limit_micros


POST = """
    select o_replayed as is_replay, o_version as version, o_posted as posted_micros, o_held as held_micros,
           o_credit_limit as credit_limit_micros, o_at as at
    from ledger.post_credit_v1($1, $2, $3, $4, $5, $6)
"""


# Each operation says what limit it left, and none comes in between while ours has the account's lock.
LIMIT_BEFORE = """
    select credit_limit_after_micros from ledger.operations
    where account_id = $1 and at < $2 order by at desc limit 1
"""


async def post_credit(
    conn: Connection,
    client: str,
    kind: CreditKind,
    amount_micros: int,
    reference: str,
    by: Actor,
    reason: str | None,
) -> CreditPosted:
    """Post credit to a client's account, or set its credit limit, once for each (client, reference).

    Raises:
        shared.storage.clients.NoSuchClient: there is none with this name.
        ReferenceConflict: the reference stands for another operation or amount.
        ImpossibleAmount: the amount is not possible for this kind.
        AccountOutOfRange: the amount is too much for the account.
    """
    async with conn.transaction():
        account = await client_account(conn, client)
        try:
            row = await conn.fetchrow(POST, account.id, kind, amount_micros, reference, by.name, reason)
        except asyncpg.UniqueViolationError:
            raise ReferenceConflict(reference) from None
        except asyncpg.InvalidParameterValueError as error:
            raise ImpossibleAmount(str(error)) from None
        except asyncpg.NumericValueOutOfRangeError as error:
            raise AccountOutOfRange(str(error)) from None
        if row is None:
            raise RuntimeError("ledger.post_credit_v1 answered nothing")
        answer = dict(row.items())
        posted = CreditPosted(currency=account.currency, **answer)
        if not posted.is_replay:
            before = None
            if kind == "credit_limit":
                limit = await conn.fetchval(LIMIT_BEFORE, account.id, posted.at) or 0
                before = {"credit_limit": format_micros(limit)}
            amount = {"amount": format_micros(amount_micros), "currency": account.currency}
            after = amount | {"reference": reference}
            target = f"client/{client}"
            await note(conn, by, f"credit.{kind}", target, before=before, after=after, reason=reason)
        return posted
