"""The books as a whole: accounts against folds and locks, currencies, operations, guards."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ledger.findings import Finding
from ledger.verify_journal import Fold
from ledger.verify_messages import Locks
from shared.runtime.postgres import Connection


@dataclass(frozen=True, slots=True)
class Account:
    """A client's account as it stands; micros. ``base_version``: what its newest checkpoint covers."""

    id: int
    currency: str
    posted_micros: int
    held_micros: int
    credit_limit_micros: int
    overdrawn_micros: int
    open_holds: int
    version: int
    base_version: int

    @property
    def available_micros(self) -> int:
        """What may be spent; below zero only by ``overdrawn_micros``."""
        return self.posted_micros - self.held_micros + self.credit_limit_micros


ACCOUNTS: Final = """
select a.id, a.currency, a.posted_micros, a.held_micros, a.credit_limit_micros, a.overdrawn_micros,
       a.open_holds, a.version, coalesce(c.version, 0)
from ledger.accounts a
left join lateral (select k.version from ledger.checkpoints k where k.account_id = a.id
                   order by k.day desc limit 1) c on true
where a.kind = 'client' and a.id > $1 order by a.id limit $2
"""


async def load_accounts(conn: Connection, after: int = 0, limit: int | None = None) -> list[Account]:
    """Return clients' accounts by id, those after ``after``."""
    return [Account(*row) for row in await conn.fetch(ACCOUNTS, after, limit)]


def check_account(account: Account) -> list[Finding]:
    """What an account's own row may say (RULES 23)."""
    findings = []
    if account.available_micros + account.overdrawn_micros < 0:
        text = f"{account.available_micros} micros are available, {account.overdrawn_micros} overdrawn"
        findings.append(Finding("below_zero", text, account.id))
    if account.overdrawn_micros != max(0, -account.available_micros):
        text = f"overdrawn is {account.overdrawn_micros} micros at {account.available_micros} available"
        findings.append(Finding("overdrawn_unjustified", text, account.id))
    return findings


def check_account_sums(
    account: Account, fold: Fold | None, locks: Locks | None, *, full: bool
) -> list[Finding]:
    """Compare an account with all its locks and its entries: all, or those after its checkpoint."""
    first = 0 if full else account.base_version
    last = fold.last_version if fold else first
    pairs = [
        ("version_lost", "the version of its last entry", account.version, last),
        ("held_differs", "held as its HELD locks", account.held_micros, locks.held_micros if locks else 0),
        (
            "open_holds_differ",
            "how many locks are HELD",
            account.open_holds,
            locks.open_holds if locks else 0,
        ),
    ]
    if full:
        net = fold.base_posted - fold.base_held + fold.client_net if fold else 0
        ours = account.posted_micros - account.held_micros
        pairs.append(("balance_differs", "posted less held, by its entries", ours, net))
    if fold:
        pairs.append(
            ("debits_and_credits", "its entries' credits less debits", 0, fold.client_net + _others(fold))
        )
    return [
        Finding(check, f"{what}: the account says {ours}, they say {theirs}", account.id)
        for check, what, ours, theirs in pairs
        if ours != theirs
    ]


def _others(fold: Fold) -> int:
    return fold.holds_net + fold.revenue_net + fold.funding_net + fold.adjustments_net


def marks_differ(fold: Fold | None, locks: Locks | None) -> bool:
    """True when entries and locks of an account do not tell the same of the same messages."""
    of_fold = (fold.hold_mark, fold.capture_mark, fold.release_mark, fold.late_mark) if fold else (0,) * 4
    of_locks = (
        (locks.hold_mark, locks.capture_mark, locks.release_mark, locks.late_mark) if locks else (0,) * 4
    )
    return of_fold != of_locks


def check_currencies(accounts: Iterable[Account], folds: Mapping[int, Fold]) -> list[Finding]:
    """The system accounts' sums against the clients' balances, for each currency."""
    held: dict[str, int] = defaultdict(int)
    balances: dict[str, int] = defaultdict(int)
    for account in accounts:
        fold = folds.get(account.id)
        held[account.currency] += account.held_micros - (fold.holds_net + fold.base_held if fold else 0)
        balances[account.currency] += account.posted_micros - account.held_micros
        if fold:
            balances[account.currency] += _others(fold) - fold.base_posted + fold.base_held
    findings = []
    for currency, micros in held.items():
        if micros != 0:
            text = f"{currency}: what clients have held and the account of holds differ by {micros} micros"
            findings.append(Finding("holds_sum", text))
    for currency, micros in balances.items():
        if micros != 0:
            text = f"{currency}: clients' balances and the system accounts differ by {micros} micros"
            findings.append(Finding("system_sums", text))
    return findings


# An operation whose entry's day was archived is not looked for; an account that lost its entry still is.
OPERATIONS: Final = """
select o.account_id, o.reference, 'operation_without_entry'
from ledger.operations o
left join ledger.entries e on e.account_id = o.account_id and e.version = o.entry_version
    and e.day = (o.at at time zone 'UTC')::date
where o.kind <> 'credit_limit' and (o.at at time zone 'UTC')::date >= $1
  and not coalesce(e.kind::text = o.kind and e.amount_micros = abs(o.amount_micros)
                   and e.reference = o.reference and e.posted_after_micros = o.posted_after_micros, false)
union all
select a.id, '', 'credit_limit_differs'
from ledger.accounts a
where a.kind = 'client' and not case
    when exists (select from ledger.operations o where o.account_id = a.id and o.kind = 'credit_limit')
    then exists (
        select from ledger.operations o
        where o.account_id = a.id and o.credit_limit_after_micros = a.credit_limit_micros
          and o.at = (select max(p.at) from ledger.operations p where p.account_id = a.id))
    else a.credit_limit_micros = 0 end
"""
OPERATION_WORDS: Final = {
    "operation_without_entry": "the journal has no such entry for the operation",
    "credit_limit_differs": "no operation set this credit limit",
}


async def check_operations(conn: Connection, first_day: object) -> list[Finding]:
    """What was asked for by name, against the journal and the credit limits (RULES 25)."""
    return [
        Finding(check, f"{OPERATION_WORDS[check]} {reference}".rstrip(), account)
        for account, reference, check in await conn.fetch(OPERATIONS, first_day)
    ]


GUARDS: Final = """
with guarded(name, guard) as (values
    ('ledger.entries', 'entries_append_only'), ('ledger.entries', 'entries_no_truncate'),
    ('ledger.credit_locks', 'credit_locks_resolve_once'), ('tollwire.message_states', 'message_states_move'),
    ('ledger.operations', 'operations_append_only'), ('ledger.checkpoints', 'checkpoints_append_only'),
    ('ledger.seals', 'seals_append_only')
), t as (
    select name::regclass::oid as id, guard from guarded
    union all select i.inhrelid, g.guard from guarded g join pg_inherits i on i.inhparent = g.name::regclass
)
select t.id::regclass::text, t.guard from t
where not exists (
    select from pg_trigger r where r.tgrelid = t.id and r.tgname = t.guard and r.tgenabled in ('O', 'A'))
order by 1, 2
"""


async def check_guards(conn: Connection) -> list[Finding]:
    """The triggers that keep the journal append-only and each move legal are there and enabled."""
    rows = await conn.fetch(GUARDS)
    return [Finding("guard_missing", f"{table} has no enabled trigger {guard}") for table, guard in rows]
