"""What the client's journal says: the account at a moment, and every entry since."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from api.read_schemas import Balance, Entry, Statement
from cli.api_client import Api
from shared.domain.money import parse_micros

PAGE: Final = 1_000
# How often the balance and the journal are read until both are of the same moment.
TRIES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The account at one moment, in micros; ``version`` is its newest entry's (0: none yet).

    ``is_quiet`` is False when the account moved each time between the two requests.
    """

    currency: str
    posted_micros: int
    held_micros: int
    version: int
    is_quiet: bool


async def snapshot(api: Api) -> Snapshot:
    """Read GET /v1/balance and the newest entry until they agree."""
    for _ in range(TRIES_MAX):
        read = await _read(api)
        if read.is_quiet:
            return read
    return await _read(api)


async def _read(api: Api) -> Snapshot:
    balance = (await api.get("/v1/balance")).read(Balance)
    newest = (await api.get("/v1/ledger", {"limit": 1})).read(Statement).entries
    shown = (newest[0].posted_after, newest[0].held_after) if newest else (balance.posted, balance.held)
    return Snapshot(
        currency=balance.currency,
        posted_micros=parse_micros(balance.posted),
        held_micros=parse_micros(balance.held),
        version=newest[0].version if newest else 0,
        is_quiet=shown == (balance.posted, balance.held),
    )


async def entries_back_to(api: Api, version: int, message_ids: Collection[str]) -> list[Entry]:
    """Return the entries above a version, and as many below as there are to the last hold of these messages.

    Newest first. A message's hold is its oldest entry.
    """
    found: list[Entry] = []
    missing = set(message_ids)
    cursor = None
    while True:
        page = (await api.get("/v1/ledger", {"limit": PAGE, "cursor": cursor})).read(Statement)
        for entry in page.entries:
            if entry.version <= version and not missing:
                return found
            if entry.kind == "hold":
                missing.discard(str(entry.message_id))
            found.append(entry)
        cursor = page.next_cursor
        if cursor is None:
            return found
