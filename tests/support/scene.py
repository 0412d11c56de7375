"""A small world in which every kind of entry, hold and state occurs once, for verifications to look at."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.checkpoints import KeyringSigner, close_day
from shared.runtime.keyring import Keyring
from tests.support import old_days
from tests.support.flow import MSISDN, Flow, new_id, outcome

SIGNER = KeyringSigner(Keyring("k1", {"k1": b"k" * 32}))
# One top-up of a day that is over, as post_credit_v1 would have written it then.
PAST_TOP_UP = """
with a as (select * from ledger.accounts where id = $1),
     f as (select id from ledger.accounts where kind = 'funding' and currency = 'EUR'),
     e as (insert into ledger.entries (account_id, version, day, at, kind, debit_account, credit_account,
               amount_micros, posted_after_micros, held_after_micros, reference, hash)
           select a.id, a.version + 1, ($2 at time zone 'UTC')::date, $2, 'top_up', f.id, a.id, 5000,
                  a.posted_micros + 5000, 0, $3, ledger.entry_hash_v1(a.chain_head, a.id, a.version + 1,
                      (extract(epoch from $2) * 1000000)::bigint, 'top_up', null, f.id, a.id, 5000,
                      a.posted_micros + 5000, 0, $3, null)
           from a, f returning *),
     o as (insert into ledger.operations (account_id, reference, kind, amount_micros, entry_version,
               posted_after_micros, held_after_micros, credit_limit_after_micros, actor, at)
           select e.account_id, $3, 'top_up', 5000, e.version, e.posted_after_micros, 0, 0, 'test', $2 from e)
update ledger.accounts t
set posted_micros = e.posted_after_micros, version = e.version, chain_head = e.hash, last_entry_at = $2
from e where t.id = $1
"""


async def past_account(flow: Flow, days_ago: int = 1, top_ups: int = 3) -> int:
    """An account whose entries are all of a day that is over."""
    account = await flow.client(0)
    day = old_days.days_ago(days_ago)
    await old_days.make_day(flow, day)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    for n in range(top_ups):
        await flow.pool.execute(PAST_TOP_UP, account, noon + timedelta(seconds=n), f"past-{n}")
    return account


async def scene(flow: Flow) -> dict[str, Any]:
    """Make the world; return the names that tests use for its parts."""
    past = await past_account(flow)
    async with flow.pool.acquire() as conn:
        await close_day(conn, old_days.days_ago(1), SIGNER)
    carrier = await flow.carrier()
    account = await flow.client(credit_micros=1_000_000)
    await flow.credit(account, "adjustment", -500, "correction")
    await flow.credit(account, "credit_limit", 2_000, "limit")
    planned = await flow.client()
    (delivered, other, undelivered, sent, late) = await flow.accepted(account, 5)
    references = await flow.submitted([delivered, other, undelivered, sent, late], carrier)
    await flow.receipt(carrier, references[0], "delivered")
    await flow.receipt(carrier, references[1], "delivered")
    await flow.receipt(carrier, references[2], "undelivered")
    await flow.later([late], 4 * 86_400)
    await flow.pool.execute("select * from ledger.expire_holds_v1($1)", [late])
    await flow.receipt(carrier, references[4], "delivered", msisdn=MSISDN)
    (queued, cancelled) = await flow.accepted(account, 2)
    await flow.cancel(account, [cancelled])
    (charged, lost, waiting) = await flow.accepted(planned, 3, charge="submitted")
    (_, reference) = await flow.submitted([charged, lost], carrier)
    await flow.receipt(carrier, reference, "undelivered")
    failed, unpaid = await _ends_without_charge(flow, planned, carrier)
    names = {"delivered": delivered, "other": other, "undelivered": undelivered, "sent": sent, "late": late}
    names |= {"queued": queued, "cancelled": cancelled, "charged": charged, "nobody": new_id()}
    names |= {"lost": lost, "waiting": waiting, "failed": failed, "unpaid": unpaid}
    return names | {"account": account, "planned": planned, "past": past, "carrier": carrier}


async def _ends_without_charge(flow: Flow, client: int, carrier: int) -> tuple[UUID, UUID]:
    """Of a plan that charges the submit: one refused at its second try; one answered only after its end."""
    (failed, unpaid) = await flow.accepted(client, 2, charge="submitted")
    await flow.claim([failed, unpaid], carrier)
    first = [outcome(failed, 1, "refused_temp", retry_seconds=0.0), outcome(unpaid, 1, "uncertain")]
    await flow.record(first, carrier)
    await flow.claim([failed], carrier)
    await flow.record([outcome(failed, 2, "refused_perm")], carrier)
    await flow.later([unpaid], 3 * 3_600)
    await flow.expire([unpaid])
    await flow.record([outcome(unpaid, 1, "submitted")], carrier)
    return failed, unpaid
