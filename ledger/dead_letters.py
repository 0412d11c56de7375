"""Every dead letter goes to ``sms.dlq`` and is counted here, whichever process made it.

The message's end writes it down as untold, in its own transaction; a stream that is away, or a process that
dies in between, delays it and loses none. A reader may see one twice: JetStream knows an id for two minutes.
"""

import asyncio
from collections import Counter as Tally
from datetime import datetime
from itertools import product
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter

from shared.events.dead_letters import DeadLetter, encode
from shared.runtime.jetstream import JetStream, PublishFailed
from shared.runtime.postgres import Pool, call
from shared.storage.finals import NO_CARRIER

# Told in one step: as many publishes are in flight at once.
LETTERS_MAX: Final = 200
CALL_DEADLINE_SECONDS: Final = 15.0
# Why a message is given up while no carrier says anything; else the last answer of a carrier is the reason.
OWN_REASONS: Final = ("outcome_unknown", "client_suspended", "restored")
REASONS: Final = (
    *OWN_REASONS,
    "refused_perm",
    "refused_temp",
    "throttled",
    "unclaimed",
    "uncertain",
    "unknown",
)

DEAD_LETTERS: Final = Counter(
    "tollwire_dead_letters_total",
    "Live messages that were given up, by the last outcome",
    ["carrier", "reason"],
)

_log = structlog.get_logger(__name__)

CARRIERS = "select name from tollwire.carriers"
UNTOLD = "select message_id from tollwire.untold_dead_letters order by message_id limit $1"
# A letter whose day was dropped has no row any more, and is only taken off. Asked only where there is one:
# to plan it over all days that are kept takes longer than to read it. Each is looked up, whatever statistics
# say of what else there is.
LETTERS = """
    select u.message_id, d.client_id, d.reason, d.attempts, d.at, coalesce(k.name, $2),
           case when d.reason = any ($3::text[]) then d.reason
                else coalesce(a.outcome::text, 'unknown') end,
           m.is_test
    from unnest($1::uuid[]) u(message_id)
    left join lateral (
        select b.client_id, b.reason, b.attempts, b.at from tollwire.dead_letters b
        where b.message_id = u.message_id offset 0) d on true
    left join lateral (
        select b.carrier_id from tollwire.message_states b
        where b.message_id = u.message_id offset 0) s on true
    left join lateral (
        select b.is_test from tollwire.messages b where b.id = u.message_id offset 0) m on true
    left join lateral (
        select b.outcome from tollwire.attempts b where b.message_id = u.message_id
        order by b.attempt_no desc, b.outcome in ('refused_perm', 'refused_temp') desc limit 1) a on true
    left join tollwire.carriers k on k.id = s.carrier_id
"""
TELL = "select tollwire.tell_dead_letters_v1($1)"


class _Untold(NamedTuple):
    message_id: UUID
    client_id: int | None
    reason: str
    attempts: int
    at: datetime
    carrier: str
    outcome: str
    is_test: bool | None

    @property
    def is_counted(self) -> bool:
        """What is counted is what operators are alerted for: nobody is woken for a client's own tests."""
        return self.client_id is not None and not self.is_test


class DeadLetters:
    """Tells the dead letters. ``run_once`` and ``show_carriers`` are its loops."""

    def __init__(self, pool: Pool, jetstream: JetStream) -> None:
        self._pool = pool
        self._jetstream = jetstream

    async def run_once(self) -> None:
        """Tell all that are not told yet, as far as JetStream takes them."""
        while self._jetstream.connected and await self._tell_some() == LETTERS_MAX:
            pass

    async def show_carriers(self) -> None:
        """Show a count of every carrier and reason: an increase is only seen from one value to another."""
        rows = await call(self._pool, CARRIERS, deadline_seconds=CALL_DEADLINE_SECONDS)
        for carrier, reason in product([NO_CARRIER, *(row[0] for row in rows)], REASONS):
            DEAD_LETTERS.labels(carrier, reason)

    async def _tell_some(self) -> int:
        letters = await self._untold()
        outcomes = await asyncio.gather(*map(self._publish, letters))
        told = {
            letter.message_id: letter for letter, is_told in zip(letters, outcomes, strict=True) if is_told
        }
        if not told:
            return 0
        taken = await call(self._pool, TELL, list(told), deadline_seconds=CALL_DEADLINE_SECONDS)
        for (carrier, reason), count in Tally(
            (told[id_].carrier, told[id_].outcome) for (id_,) in taken if told[id_].is_counted
        ).items():
            DEAD_LETTERS.labels(carrier, reason).inc(count)
        return len(told)

    async def _untold(self) -> list[_Untold]:
        rows = await call(self._pool, UNTOLD, LETTERS_MAX, deadline_seconds=CALL_DEADLINE_SECONDS)
        if not rows:
            return []
        ids = [row[0] for row in rows]
        rows = await call(
            self._pool, LETTERS, ids, NO_CARRIER, OWN_REASONS, deadline_seconds=CALL_DEADLINE_SECONDS
        )
        return [_Untold(*row) for row in rows]

    async def _publish(self, letter: _Untold) -> bool:
        if letter.client_id is None:
            return True
        told = DeadLetter(
            message_id=letter.message_id.hex,
            client_id=letter.client_id,
            reason=letter.reason,
            attempts=letter.attempts,
            at=letter.at,
        )
        try:
            await self._jetstream.publish(
                "sms.dlq", encode(told), message_id=f"dlq.{told.message_id}", headers={}
            )
        except PublishFailed as error:
            _log.warning("dead letter not told yet", message_id=told.message_id, error=str(error))
            return False
        return True
