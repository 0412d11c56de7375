"""The audit trail: who changed what, from where, from what to what, and why (RULES 25)."""

from dataclasses import dataclass
from typing import Final

import msgspec

from shared.runtime.postgres import Connection

# What an operator can be expected to write; more is a document, and belongs elsewhere.
REASON_CHARACTERS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change: the name of a key or of a program, and the address it came from."""

    name: str
    address: str | None = None


INSERT = """
    insert into tollwire.audit_trail (actor, address, action, target, before, after, reason)
    values ($1, $2::text::inet, $3, $4, $5::text::jsonb, $6::text::jsonb, $7)
"""


async def note(
    conn: Connection,
    by: Actor,
    action: str,
    target: str,
    *,
    before: object,
    after: object,
    reason: str | None,
) -> None:
    """Write one line of the trail, in the transaction of the change that it tells of.

    ``before`` and ``after`` are anything that msgspec writes as JSON; None where there was or is nothing.
    They hold no secret, if only `$secret` stands for one in a carrier's settings, which are kept as they were
    written. ``target`` names the thing as ``client/demo``, ``key/<id>``, ``carrier/simulator``.
    """
    address = None if by.address is None else _without_zone(by.address)
    await conn.execute(INSERT, by.name, address, action, target, _json(before), _json(after), reason)


def _without_zone(address: str) -> str:
    """``fe80::1`` of ``fe80::1%eth0``: the rest names an interface of this host, and inet knows no such."""
    return address.partition("%")[0]


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
