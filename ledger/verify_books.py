"""The books as a whole: accounts against folds and locks, currencies, guards."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from ledger.findings import Finding
from ledger.verify_chain import NOTHING, Fold, State
from ledger.verify_messages import Locks
from shared.runtime.postgres import Connection


@dataclass(frozen=True, slots=True)
class Account:
    """A client's account as it stands; micros. ``base``: what its newest checkpoint says, before a day."""

    id: int
    currency: str
    posted_micros: int
    held_micros: int
    credit_limit_micros: int
    overdrawn_micros: int
    open_holds: int
    version: int
    head: bytes
    base: State

    @property
    def available_micros(self) -> int:
        """What may be spent; below zero only by ``overdrawn_micros``."""
        return self.posted_micros - self.held_micros + self.credit_limit_micros


ACCOUNTS: Final = """
select a.id, a.currency, a.posted_micros, a.held_micros, a.credit_limit_micros, a.overdrawn_micros,
       a.open_holds, a.version, a.chain_head, c.chain_head, c.version, null, c.posted_micros, c.held_micros
from ledger.accounts a
left join lateral (select * from ledger.checkpoints k where k.account_id = a.id and k.day < $3
                   order by k.day desc limit 1) c on true
where a.kind = 'client' and a.id > $1 order by a.id limit $2
"""
OF_AN_ACCOUNT: Final = 9


async def load_accounts(
    conn: Connection, since: date, after: int = 0, limit: int | None = None
) -> list[Account]:
    """Return clients' accounts by id, those after ``after``; their bases are of the days before ``since``."""
    accounts = []
    for row in map(tuple, await conn.fetch(ACCOUNTS, after, limit, since)):
        base = row[OF_AN_ACCOUNT:]
        values = (*row[:OF_AN_ACCOUNT], NOTHING if base[0] is None else State(*base))
        accounts.append(Account(*values))
    return accounts


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


def check_entries(account: Account, fold: Fold | None) -> list[Finding]:
    """Compare an account with what its entries since its base left, and what they add up to."""
    fold = fold or Fold(account.id, account.base, account.base)
    net = fold.base.posted_micros - fold.base.held_micros + fold.client_net
    balance = account.posted_micros - account.held_micros
    findings = _unequal(
        account,
        ("version_lost", "the version of its last entry", account.version, fold.last.version),
        ("balance_differs", "posted less held, by its entries", balance, net),
        ("debits_and_credits", "its entries' credits less debits", 0, fold.client_net + fold.others_net),
    )
    last, now = fold.last, (account.head, account.posted_micros, account.held_micros)
    if last.version == account.version and (last.head, last.posted_micros, last.held_micros) != now:
        text = f"entry {last.version}: the account's balances or chain head are not those of its last entry"
        findings.append(Finding("account_differs", text, account.id))
    return findings


def check_locks(account: Account, locks: Locks) -> list[Finding]:
    """Compare an account with all its locks."""
    held, open_holds = locks.held_micros[account.id], locks.open_holds[account.id]
    return _unequal(
        account,
        ("held_differs", "held as its HELD locks", account.held_micros, held),
        ("open_holds_differ", "how many locks are HELD", account.open_holds, open_holds),
    )


def _unequal(account: Account, *pairs: tuple[str, str, int, int]) -> list[Finding]:
    return [
        Finding(check, f"{what}: the account says {ours}, they say {theirs}", account.id)
        for check, what, ours, theirs in pairs
        if ours != theirs
    ]


def check_currencies(accounts: Iterable[Account], folds: Mapping[int, Fold]) -> list[Finding]:
    """The system accounts' sums against the clients' balances, for each currency."""
    held: dict[str, int] = defaultdict(int)
    balances: dict[str, int] = defaultdict(int)
    for account in accounts:
        fold = folds.get(account.id) or Fold(account.id, account.base, account.base)
        held[account.currency] += account.held_micros - fold.base.held_micros - fold.holds_net
        balances[account.currency] += account.posted_micros - account.held_micros + fold.others_net
        balances[account.currency] -= fold.base.posted_micros - fold.base.held_micros
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


GUARDS: Final = """
with guarded(name, guard) as (values
    ('ledger.entries', 'entries_append_only'), ('ledger.entries', 'entries_no_truncate'),
    ('ledger.credit_locks', 'credit_locks_resolve_once'), ('tollwire.message_states', 'message_states_move'),
    ('ledger.operations', 'operations_append_only'), ('ledger.checkpoints', 'checkpoints_append_only'),
    ('ledger.seals', 'seals_append_only'), ('ledger.operations', 'operations_no_truncate'),
    ('ledger.checkpoints', 'checkpoints_no_truncate'), ('ledger.seals', 'seals_no_truncate')
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
