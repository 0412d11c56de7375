"""Any interleaving of accept, claim, record, receipt, cancel, expiry and credit gives what the oracle gives.

Each step runs the real functions on a real PostgreSQL, over the connections of a pool; after each step every
balance, hold and state is compared. The fixture verifies the whole books at the end.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from api.store import AcceptItem
from ledger import clockwork_store
from tests.support.flow import MSISDN, Flow, accept_item, open_flow, outcome
from tests.support.long import LONG
from tests.support.oracle import Account, Oracle, Want
from tests.support.servers import Database

T = TypeVar("T")
VALID_SECONDS = 600
NO_RECEIPT_SECONDS = 60
# Fewer tries than the last one: what the last one does is tested by itself.
TRIES_BELOW = 8
AMOUNTS = st.sampled_from([0, 1, 10, 500, 990])
WORDS = ("submitted", "refused_temp", "refused_perm", "uncertain", "throttled", "unclaimed")
RECEIPTS = ("delivered", "undelivered", "expired", "enroute")
POSITIONS = st.fixed_dictionaries(
    {
        "account": st.integers(0, 2),
        "amount": AMOUNTS,
        "max_price": st.sampled_from([None, None, None, 10]),
        "key": st.sampled_from([None, None, "a", "b", "c"]),
        "fingerprint": st.sampled_from([b"1" * 32, b"1" * 32, b"1" * 32, b"2" * 32]),
        "charge": st.sampled_from(["delivered", "submitted"]),
        "delivery": st.sampled_from(["at_most_once", "at_least_once"]),
        "is_again": st.booleans(),
    }
)
SOME = st.lists(st.integers(0, 30), min_size=1, max_size=4)


class LedgerMachine(RuleBasedStateMachine):
    """Three accounts, two carriers, and whatever happens to them."""

    flow: Flow
    runner: asyncio.Runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(balances=st.lists(st.sampled_from([100, 1_000, 5_000]), min_size=3, max_size=3))
    def open(self, balances: list[int]) -> None:
        self.oracle = Oracle()
        self.last_call: list[AcceptItem] = []
        self.references = 0
        self.carriers = [
            self.run(self.flow.carrier(no_receipt_policy=policy, no_receipt_seconds=NO_RECEIPT_SECONDS))
            for policy in ("release", "capture")
        ]
        for credit in balances:
            account = self.run(self.flow.client(credit))
            self.oracle.accounts[account] = Account()
            if credit:
                self.oracle.accounts[account].credit("top_up", credit, "opening")
        self.accounts = list(self.oracle.accounts)

    def carrier_of(self, account: int) -> int:
        """One client's messages go by the carrier that captures what has no receipt."""
        return self.carriers[self.accounts.index(account) == 2]

    def chosen(self, numbers: list[int], *states: str) -> list[UUID]:
        """Messages by number: mostly those in these states, at every seventh turn any."""
        known = self.oracle.messages
        fitting = [message for message in known if not states or known[message].state.value in states]
        among = list(known) if numbers[0] % 7 == 6 else fitting
        return [among[number % len(among)] for number in numbers] if among else []

    @rule(positions=st.lists(POSITIONS, min_size=1, max_size=6))
    def accept(self, positions: list[dict[str, Any]]) -> None:
        items: list[AcceptItem] = []
        for position in positions:
            values = dict(position)
            is_again = values.pop("is_again") and bool(items)
            values["account_id"] = self.accounts[values.pop("account")]
            values["amount_micros"] = values.pop("amount")
            values["max_price_micros"] = values.pop("max_price")
            item = accept_item(0, carrier_id=self.carrier_of(values["account_id"]), **values)
            # Sometimes the very same position stands twice in a call (RULES 5).
            items.append(items[-1] if is_again else replace(item, valid_seconds=VALID_SECONDS))
        self.last_call = items
        self.accepted_as_by_oracle(items)

    @rule()
    def accept_again(self) -> None:
        """The same call with the same ids, as after a lost answer (RULES 4)."""
        self.accepted_as_by_oracle(
            [item for item in self.last_call if item.message_id in self.oracle.messages]
        )

    def accepted_as_by_oracle(self, items: list[AcceptItem]) -> None:
        if not items:
            return
        answers = self.run(self.flow.accept(items))
        # Greedy within an account; the accounts do not touch each other (RULES 9).
        for item, answer in zip(items, answers, strict=True):
            want = Want(
                item.account_id, item.message_id, item.key, item.fingerprint, item.amount_micros,
                item.max_price_micros, item.charge, item.delivery,
            )  # fmt: skip
            got = answer.outcome.replace("refused_before", "refused"), answer.message_id, answer.problem
            outcome_, message, problem = self.oracle.accept(want)
            assert got == (outcome_.replace("refused_before", "refused"), message, problem)

    @rule(
        number=st.integers(0, 2),
        kind=st.sampled_from(["top_up", "adjustment", "credit_limit"]),
        amount=st.sampled_from([1, 50, 700]),
        reference=st.sampled_from("xyz"),
        is_debit=st.booleans(),
    )
    def credit(self, number: int, kind: str, amount: int, reference: str, is_debit: bool) -> None:
        micros = -amount if kind == "adjustment" and is_debit else amount
        account = self.accounts[number]
        expected = self.oracle.accounts[account].credit(kind, micros, reference)
        try:
            row = self.run(self.flow.credit(account, kind, micros, reference))
        except asyncpg.UniqueViolationError:
            assert expected == "conflict"
        else:
            assert row["o_replayed"] == (expected == "replayed")

    @rule(numbers=SOME)
    def claim(self, numbers: list[int]) -> None:
        for message in self.chosen(numbers, "QUEUED", "FAILED_TEMP"):
            if self.oracle.messages[message].tries >= TRIES_BELOW:
                continue
            (claim,) = self.run(
                self.flow.claim([message], self.carrier_of(self.oracle.messages[message].account))
            )
            assert claim.refusal == self.oracle.claim(message)

    @rule(numbers=SOME, word=st.sampled_from(WORDS))
    def record(self, numbers: list[int], word: str) -> None:
        for message in self.chosen(numbers, "SENDING", "UNKNOWN"):
            known = self.oracle.messages[message]
            if known.attempts and known.tries < TRIES_BELOW:
                line = outcome(message, len(known.attempts), word, retry_seconds=0.0)
                (recorded,) = self.run(self.flow.record([line], self.carrier_of(known.account)))
                assert recorded.moved == self.oracle.record(message, word)
                assert recorded.state == known.state.value

    @rule(numbers=SOME)
    def send(self, numbers: list[int]) -> None:
        """The ordinary way, so that enough messages get so far."""
        self.claim(numbers)
        self.record(numbers, "submitted")

    @rule(numbers=SOME, attempt=st.integers(0, 5), word=st.sampled_from(RECEIPTS))
    def receipt(self, numbers: list[int], attempt: int, word: str) -> None:
        for message in self.chosen(numbers, "SENT", "EXPIRED", "UNDELIVERED"):
            known = self.oracle.messages[message]
            submitted = [n for n, each in enumerate(known.attempts, 1) if each.outcome == "submitted"]
            if submitted:
                number = submitted[attempt % len(submitted)]
                reference = f"ref-{message}-{number}-1"
                carrier = self.carrier_of(known.account)
                settled = self.run(self.flow.receipt(carrier, reference, word, msisdn=MSISDN))
                assert settled.outcome == self.oracle.receipt(message, number, word)

    @rule(numbers=SOME)
    def cancel(self, numbers: list[int]) -> None:
        for message in self.chosen(numbers)[:1]:
            expected = self.oracle.cancel(message)
            assert self.run(self.flow.cancel(self.oracle.messages[message].account, [message])) == [expected]

    @rule(numbers=SOME)
    def validity_ends(self, numbers: list[int]) -> None:
        for message in self.chosen(numbers)[:1]:
            is_over = self.oracle.expire_due(message)
            if is_over:
                self.run(self.flow.later([message], VALID_SECONDS + 1))
            assert len(self.run(self.flow.expire([message]))) == is_over

    @rule(numbers=SOME)
    def receipt_never_comes(self, numbers: list[int]) -> None:
        for message in self.chosen(numbers, "SENT")[:1]:
            account = self.oracle.messages[message].account
            policy = "capture" if self.carrier_of(account) == self.carriers[1] else "release"
            is_over = self.oracle.expire_hold(message, policy)
            if is_over:
                self.run(self.flow.later([message], NO_RECEIPT_SECONDS + 1))
            moved = self.run(clockwork_store.expire_holds(self.flow.pool, [message]))
            assert len(moved) == is_over

    @invariant()
    def everything_is_as_the_oracle_says(self) -> None:
        accounts, messages = self.run(state_of(self.flow, self.accounts))
        assert accounts == {id_: account.row() for id_, account in self.oracle.accounts.items()}
        assert messages == {id_: message.row() for id_, message in self.oracle.messages.items()}


ACCOUNTS = """
select id, posted_micros, held_micros, credit_limit_micros, overdrawn_micros, open_holds, version
from ledger.accounts where id = any ($1)
"""
MESSAGES = """
select m.id, s.state::text, l.state::text, l.late_captured_at is not null, s.late_receipt,
       s.possible_duplicate, s.tries, s.attempt_no
from tollwire.messages m
left join tollwire.message_states s on s.message_id = m.id
left join ledger.credit_locks l on l.message_id = m.id
where m.client_id = any ($1)
"""
Rows = dict[Any, tuple[object, ...]]


async def state_of(flow: Flow, accounts: list[int]) -> tuple[Rows, Rows]:
    """Read what the oracle knows of these accounts and their messages."""
    rows, messages = await asyncio.gather(
        flow.pool.fetch(ACCOUNTS, accounts), flow.pool.fetch(MESSAGES, accounts)
    )
    return {row[0]: tuple(row)[1:] for row in rows}, {row[0]: tuple(row)[1:] for row in messages}


PROFILE = settings(
    max_examples=1_000 if LONG else 60,
    stateful_step_count=60 if LONG else 40,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)


def test_any_interleaving_is_what_the_oracle_says(database: Database) -> None:
    with asyncio.Runner() as runner:
        context = open_flow(database)
        LedgerMachine.runner = runner
        LedgerMachine.flow = runner.run(context.__aenter__())
        try:
            run_state_machine_as_test(LedgerMachine, settings=PROFILE)
        finally:
            runner.run(context.__aexit__(None, None, None))
