"""What a fault costs is read off the logs."""

from collections import Counter

from tests.chaos.evidence import CarrierLog, gather
from tests.chaos.instance import CARRIERS
from tests.chaos.logs import ClientLine, Doubt, Offer, Told, Word
from tests.chaos.measure import Aftermath, Strike, aftermaths, longest_gap
from tests.chaos.results import added, left_out, totals
from tests.chaos.run import NEVER_STRUCK, not_done, nothing_struck
from tests.chaos.table import table_of
from tests.chaos.verdict import KINDS


def test_the_longest_gap_counts_the_edges():
    assert longest_gap([1.0, 2.0, 9.0], 0.0, 10.0) == 7.0
    assert longest_gap([5.0], 0.0, 12.0) == 7.0
    assert longest_gap([], 3.0, 4.5) == 1.5


def test_the_cost_of_a_fault_is_its_silence_its_doubts_and_its_backlog():
    client: list[ClientLine] = []
    told = []
    for number, (accepted_at, ended_at) in enumerate([(10.0, 11.0), (12.0, 30.0), (25.0, 26.0)]):
        key, id_ = f"key-{number}", f"id-{number}"
        client.append(Offer(accepted_at, key, "acme", "+4915120000001", "at_most_once", key))
        client.append(Word(accepted_at, key, id=id_))
        told.append(Told(ended_at, "acme", f"msg_{id_}", 1, "message.delivered", id_, "DELIVERED", 3))
    client.append(Doubt(14.0, "key-2", "nobody listens"))
    evidence = gather(client, [CarrierLog(kind, []) for kind in CARRIERS], told, {"acme": "delivered"})
    strike = Strike("kill api", struck_at=12.5, healed_at=15.0)
    assert aftermaths(evidence, [strike], load_ended_at=40.0) == [Aftermath("kill api", 12.5, 1, 15.0, 15.0)]


def run(seed: int, **changes: object) -> dict[str, object]:
    fault = {"times": 2, "no_accept_seconds": 1.0, "failed_requests": 3.0, "backlog_seconds": 4.0,
             "backlog_last_seconds": 5.0}  # fmt: skip
    row = {"plan": "kills", "seed": seed, "copies": 1, "kills": 5, "counts": {"accepted": 10},
           "violations": {}, "errors": [], "settled_seconds": 20, "faults": {"kill api": fault}}  # fmt: skip
    return row | changes


def test_runs_add_up_and_a_seed_counts_once():
    runs = added(added([], run(1)), run(2, violations={"accepted_and_lost": 1}))
    runs = added(runs, run(1, kills=7))
    sums = totals(runs)
    assert (sums["runs"], sums["kills"], sums["counts"]["accepted"]) == (2, 12, 20)
    assert sums["violations"]["accepted_and_lost"] == 1
    assert set(sums["violations"]) == set(KINDS)
    assert sums["faults"]["kill api"]["times"] == 4
    assert sums["faults"]["kill api"]["backlog_seconds"] == 4.0
    assert sums["seeds"] == {"kills": [1, 2]}


def test_each_plan_tells_its_worst_run_and_how_many_were_not_clean():
    runs = [run(1), run(2, no_accept_seconds=7.5, errors=["kill dlr: NotHit: it lives"]), run(3)]
    assert totals(runs)["plans"] == {
        "kills": {
            "runs": 3, "not_clean": 1, "no_accept_seconds": 7.5, "backlog_seconds": 4.0,
            "backlog_last_seconds": 5.0, "settled_seconds": 20,
        }
    }  # fmt: skip
    lines = list(table_of(runs))
    assert "| kills | 3 | 1 | 7.5 s | 4.0 s | 5.0 s | 20 s |" in lines
    assert "- kills 2: kill dlr: NotHit: it lives" in lines


def test_a_run_that_left_out_what_its_plan_is_for_is_not_clean_whenever_it_was_made():
    fault = {"times": 1, "no_accept_seconds": 1.0, "failed_requests": 0.0, "backlog_seconds": 4.0,
             "backlog_last_seconds": 5.0}  # fmt: skip
    part = run(1, plan="restarts", faults={"rolling restart dlr": fault, "rolling restart worker": fault})
    assert left_out(part) == ["rolling restart api", "rolling restart ledger"]
    assert totals([part])["plans"]["restarts"]["not_clean"] == 1
    assert "- restarts 1: 2 of the plan's faults never struck" in list(table_of([part]))


def test_where_backlogs_are_not_waited_for_the_refusals_are_timed_all_the_same():
    client: list[ClientLine] = []
    for number, at in enumerate([10.0, 12.0, 25.0]):
        client.append(Offer(at, f"key-{number}", "acme", "+4915120000001", "at_most_once", f"{number}"))
        client.append(Word(at, f"key-{number}", id=f"id-{number}"))
    told = [Told(30.0, "acme", "msg_1", 1, "message.delivered", "id-0", "DELIVERED", 3)]
    evidence = gather(client, [CarrierLog(kind, []) for kind in CARRIERS], told, {"acme": "delivered"})
    found = aftermaths(evidence, [Strike("kill api", 12.5, 15.0)], load_ended_at=40.0, is_timed=False)
    assert found == [Aftermath("kill api", 12.5, 0, 0.0, 0.0)]


def test_what_a_run_is_for_and_did_not_do_is_an_error():
    names = ("rolling restart api", "rolling restart dlr")
    assert not_done(NEVER_STRUCK, names, Counter({"rolling restart dlr": 2})) == [
        "rolling restart api: never struck in this run"
    ]


def test_a_run_that_broke_nothing_is_no_good_run():
    assert nothing_struck(Counter(), [], 60.0) == [
        "no fault fitted into 60 s of load: run the plan for longer"
    ]
    assert nothing_struck(Counter({"kill api": 1}), [], 60.0) == []
    assert nothing_struck(Counter(), ["kill api: OSError: it was gone"], 60.0) == []
