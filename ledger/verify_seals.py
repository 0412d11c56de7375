"""Seals against checkpoints, entries and signatures, and against the files that were exported (RULES 27)."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from ledger.checkpoints import SignedSeal, Signer, root_of
from ledger.findings import Finding
from shared.runtime.postgres import Connection


async def check_seal(
    conn: Connection, signed: SignedSeal, *, full: bool, signer: Signer | None
) -> list[Finding]:
    """Prove a seal by its root, its signature where a signer is there, and its entries when ``full``."""
    seal = signed.seal
    findings: list[Finding] = []
    if await root_of(conn, seal.day, signed.root_before) != (seal.accounts, seal.root):
        findings.append(Finding("seal_broken", f"{seal.day}: the checkpoints are not those that were sealed"))
    if signer is not None and not signer.is_signed(seal.text(), signed.signature, signed.key_id):
        text = f"{seal.day}: the signature is not one of key {signed.key_id}"
        findings.append(Finding("seal_forged", text))
    return findings + (await _check_day(conn, signed) if full else [])


# One pass over a day: its sums, and how many entries are what a checkpoint says of them.
# The sum as text, as in checkpoints.DAY_AMOUNTS.
DAY: Final = """
select a.currency, e.kind::text, count(*), sum(e.amount_micros)::text, count(c.account_id)
from ledger.entries e
join ledger.accounts a on a.id = e.account_id
left join ledger.checkpoints c on c.day = $1 and c.account_id = e.account_id and c.version = e.version
    and c.posted_micros = e.posted_after_micros and c.held_micros = e.held_after_micros
    and c.chain_head = e.hash
where e.day = $1 group by a.currency, e.kind
"""
CHECKPOINTS_AND_ENTRIES: Final = """
select c.account_id, c.version from ledger.checkpoints c
left join ledger.entries e on e.account_id = c.account_id and e.version = c.version and e.day = $1
where c.day = $1 and not coalesce(e.posted_after_micros = c.posted_micros
    and e.held_after_micros = c.held_micros and e.hash = c.chain_head, false)
order by 1
"""


async def _check_day(conn: Connection, signed: SignedSeal) -> list[Finding]:
    """Compare a sealed day with its entries, while they are kept."""
    seal, findings = signed.seal, list[Finding]()
    rows = await conn.fetch(DAY, seal.day)
    if rows and sum(row[-1] for row in rows) != seal.accounts:
        text = f"{seal.day}: the checkpoint of version %d is not what its entry left"
        findings = [
            Finding("checkpoint_differs", text % version, account)
            for account, version in await conn.fetch(CHECKPOINTS_AND_ENTRIES, seal.day)
        ]
    amounts: dict[str, dict[str, dict[str, int]]] = {}
    for currency, kind, entries, micros, _ in rows:
        amounts.setdefault(currency, {})[kind] = {"entries": entries, "micros": int(micros)}
    if rows and amounts != seal.amounts:
        findings.append(Finding("seal_differs", f"{seal.day}: the entries are not those that were sealed"))
    return findings


def compare_exported(
    seals: Iterable[SignedSeal], exported: Mapping[date, SignedSeal], signer: Signer | None
) -> list[Finding]:
    """Compare the database's seals with those that were exported, day by day.

    Days after the newest file are not missed, if there is one: the files may be a copy of some time ago.
    """
    ours = {signed.seal.day: signed for signed in seals}
    findings = []
    for day, theirs in sorted(exported.items()):
        findings += _compare(ours.get(day), theirs)
        if signer is not None and not signer.is_signed(theirs.seal.text(), theirs.signature, theirs.key_id):
            text = f"{day}: the signature in the file is not one of key {theirs.key_id}"
            findings.append(Finding("seal_file_forged", text))
    newest = max(exported, default=date.max)
    for day in sorted(ours.keys() - exported.keys()):
        if day < newest:
            text = f"{day}: the database has a seal, and there is no file of it"
            findings.append(Finding("seal_file_missing", text))
    return findings


def _compare(ours: SignedSeal | None, theirs: SignedSeal) -> list[Finding]:
    day = theirs.seal.day
    if ours is None:
        return [Finding("seal_missing", f"{day}: the day was sealed, and the database has no seal of it")]
    if ours.seal != theirs.seal or ours.root_before != theirs.root_before:
        names = ("accounts", "entries", "amounts", "root")
        changed = [name for name in names if getattr(ours.seal, name) != getattr(theirs.seal, name)]
        what = ", ".join(changed) or "the root before it"
        text = f"{day}: the database's seal is not the one that was exported: {what}"
        return [Finding("seal_changed", text)]
    if (ours.key_id, ours.signature) != (theirs.key_id, theirs.signature):
        text = f"{day}: signed by key {theirs.key_id} when it was exported, by key {ours.key_id} now"
        return [Finding("seal_signed_anew", text)]
    return []
