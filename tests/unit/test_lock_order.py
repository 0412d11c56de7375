"""The check of the lock order sees who moves money in steps."""

import pytest

from tests.chaos.simulation.lock_order import faults_of

ACCOUNTS = "perform 1 from ledger.accounts where id = any (ids) order by id for update;"
RECORD = "perform * from tollwire.record_batch_v1(ids, array_fill('{}'::tollwire.attempt_outcome, n));"
BARE = "f_v1 moves money in steps and has not locked all accounts before"


@pytest.mark.parametrize("call", ["record_batch_v1(", "record_rest_v1(", "settle_rest_v1("])
def test_who_records_or_settles_has_locked_the_accounts_before(call: str) -> None:
    text = f"perform * from tollwire.{call}ids);"
    assert faults_of("f_v1", text) == [BARE]
    assert faults_of("f_v1", ACCOUNTS + text) == []


def test_claims_are_recovered_without_accounts_as_long_as_they_are_recorded_as_uncertain() -> None:
    assert faults_of("recover_claims_v1", RECORD.format("uncertain")) == []
    assert faults_of("recover_claims_v1", RECORD.format("submitted")) != []


@pytest.mark.parametrize(
    ("order", "faults"), [("p_account[n], n", []), ("n", ["f_v1 locks accounts in no order"])]
)
def test_one_account_after_the_other_is_locked_only_by_a_loop_in_their_order(
    order: str, faults: list[str]
) -> None:
    loop = f"for r in select p_account[n] as account_id from generate_series(1, 9) n order by {order} loop"
    lock = "select t.id into v_id from ledger.accounts t where t.id = r.account_id for update"
    assert faults_of("f_v1", f"{loop} v_n := v_n + 1; {lock}; end loop;") == faults
    other = "for r in select 1 from generate_series(1, 9) n loop v_n := v_n - 1; end loop"
    assert faults_of("f_v1", f"{other}; {loop} v_n := v_n + 1; {lock}; end loop;") == faults
    assert (
        faults_of("f_v1", f"{loop} v_n := v_n + 1; end loop; {other.replace('end', lock + '; end')};") != []
    )
