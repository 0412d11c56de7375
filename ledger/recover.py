"""`tollwire recover`: what to make of a database that was restored to an earlier moment (RULES 34).

The world went on after that moment: messages were sent, receipts taken, clients told, and the database
knows none of it. Facts on ``sms.event.*`` that NATS still has say what became of some messages; what they
say is made again. Everything else that waits may have been sent, and is treated as a submit whose answer
was lost. What was accepted after the moment is gone; the facts name it.

Services do not run meanwhile. Cut off anywhere, it is started again and goes on.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ledger import recover_store as store
from ledger.clockwork_store import make_partitions
from ledger.recover_facts import Said, Told
from ledger.recover_store import Decided
from shared.runtime.postgres import Pool
from shared.storage.audit import Actor, note

# Each call locks these messages and their accounts; nobody else is there to wait for them.
CHUNK: Final = 500
FIRST_ID: Final = UUID(int=0)
# What the database may have that is newer than the moment named: clocks differ, and a target of recovery
# stops before or after the commit that meets it.
NEWER_MAX: Final = timedelta(seconds=10)
SERVICES: Final = ("tollwire-api", "tollwire-worker", "tollwire-dlr", "tollwire-ledger")

Progress = Callable[[int, int], None]
Listener = Callable[[UUID, str, str], None]


class CannotRecover(Exception):  # noqa: N818 - named for what happened
    """The database is not what it would have to be right after a restore."""


class ServicesRun(CannotRecover):
    """Services are connected to the database."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A recovery: to which moment the database was restored, when this began, what may go out by itself.

    Attributes:
        until: nothing that was not to be sent before this can have been sent.
        holds_back: nothing is sent again before an operator has decided.
    """

    restored_to: datetime
    began: datetime
    until: datetime
    holds_back: bool

    @property
    def mark(self) -> str:
        """What is remembered of it while it runs."""
        return " ".join(("running", *(m.isoformat() for m in (self.restored_to, self.began, self.until))))


@dataclass
class Recovered:
    """What a recovery did, in messages.

    Attributes:
        ended: a final state that had been told was made again, by state.
        sent: were known to be with their carrier.
        asked_again: go to a carrier that recognises our ids.
        sent_again: go out once more, marked as possible duplicates.
        held_back: UNKNOWN; they end as dead letters unless a receipt comes.
        gone: accepted after the moment; only facts know them.
    """

    ended: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    asked_again: int = 0
    sent_again: int = 0
    held_back: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    open_holds: int = 0

    def add(self, decided: Decided) -> str:
        """Count one, and return the word for what was done with it."""
        if decided.after in FINAL:
            self.ended[decided.after] += 1
            return "ended"
        if decided.after == "SENT":
            self.sent += 1
            return "sent"
        if decided.after == "UNKNOWN":
            self.held_back += 1
            return "held_back"
        if decided.is_possible_duplicate:
            self.sent_again += 1
            return "sent_again"
        self.asked_again += 1
        return "asked_again"


FINAL: Final = frozenset({"DELIVERED", "UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"})


async def plan_for(pool: Pool, restored_to: datetime, *, holds_back: bool) -> Plan:
    """Look whether the database is fit for it, and write nothing; one that was cut off is taken up again.

    Raises:
        CannotRecover: services run (ServicesRun), it is done already, or the database is newer than the
            moment named.
    """
    if running := await store.connected(pool, SERVICES):
        raise ServicesRun(f"{', '.join(running)} still run on this database")
    now, newest = await store.times(pool)
    word, *moments = (await store.read_mark(pool)).split()[:4] or [""]
    if word == "running":
        to, began, until = map(datetime.fromisoformat, moments)
        if to != restored_to:
            raise CannotRecover(f"a recovery to {to.isoformat()} has begun; go on with that one")
        return Plan(to, began, until, holds_back)
    if word == "done" and datetime.fromisoformat(moments[0]) == restored_to:
        raise CannotRecover("the recovery to this moment is done already")
    if newest is not None and newest > restored_to + NEWER_MAX:
        raise CannotRecover(
            f"the newest entry in the journal is of {newest.isoformat()}, which is after the moment named"
        )
    return Plan(restored_to, now, now, holds_back)


async def recover(
    pool: Pool, plan: Plan, told: Mapping[UUID, Said], by: Actor, listener: Listener, progress: Progress
) -> Recovered:
    """Decide for every message that something may have happened to.

    Args:
        pool: the ledger role's.
        plan: from ``plan_for``.
        told: what was last told of each message after the restored moment.
        by: for the audit trail.
        listener: hears of each message what was done, and what had been told of it.
        progress: hears how many are looked at, of how many at least.
    """
    await store.write_mark(pool, plan.mark)
    # The last of the days to come that the database has was a week after the restored moment.
    now, _ = await store.times(pool)
    await make_partitions(pool, now.date(), now.date() + timedelta(days=1))
    recovered = Recovered()
    await _decide_told(pool, plan, told, recovered, listener)
    after, seen = FIRST_ID, 0
    while ids := await store.waiting(pool, after, CHUNK):
        await _decide(pool, plan, [(id_, told.get(id_)) for id_ in ids], recovered, listener)
        after, seen = ids[-1], seen + len(ids)
        progress(seen, seen)
    recovered.open_holds = await store.open_holds(pool)
    async with pool.acquire() as connection:
        done = vars(recovered) | {
            "restored_to": plan.restored_to,
            "holds_back": plan.holds_back,
        }
        await note(connection, by, "recover", "database", before=None, after=done, reason=None)
    return recovered


async def finish(pool: Pool, plan: Plan) -> None:
    """Remember that it is done, streams included: until then it goes on when it is started again."""
    await store.write_mark(pool, f"done {plan.restored_to.isoformat()}")


async def _decide_told(
    pool: Pool, plan: Plan, told: Mapping[UUID, Said], recovered: Recovered, listener: Listener
) -> None:
    """What facts tell of: made again where the database has the message, else it is gone."""
    for ids in _chunks(sorted(told)):
        known = await store.known(pool, ids)
        for id_ in ids:
            if id_ not in known:
                recovered.gone[told[id_].status] += 1
                listener(id_, "gone", told[id_].status)
        await _decide(pool, plan, [(id_, told[id_]) for id_ in ids if id_ in known], recovered, listener)


async def _decide(
    pool: Pool, plan: Plan, told: Sequence[Told], recovered: Recovered, listener: Listener
) -> None:
    if not told:
        return
    words = {id_: said.status if said else "" for id_, said in told}
    decided = await store.decide(pool, told, began=plan.began, until=plan.until, holds_back=plan.holds_back)
    for one in decided:
        listener(one.message_id, recovered.add(one), words[one.message_id])


def _chunks(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
