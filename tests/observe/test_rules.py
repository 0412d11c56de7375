"""Every alert fires when it is told to, with the labels that a person needs, and else not (promtool)."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observe.rules import ALWAYS, ROOT, Case, alerts, cases, rule_files, rules

PROMTOOL_SECONDS = 60.0
# `le="30"`, also as JSON writes it; `le="0.02"` has one spelling.
WHOLE_BUCKET = re.compile(r'\ble=\\?"\d+(\.0)?\\?"')
DASHBOARDS = sorted((ROOT / "charts" / "tollwire" / "dashboards").glob("*.json"))
CASES = cases()
SEVERITIES = {alert.name: alert.severity for alert in alerts()}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("promtool")
    assert program is not None, "promtool is needed: apt install prometheus"
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=PROMTOOL_SECONDS
    )


@pytest.fixture(scope="module")
def bare_rules(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The rules without what is written for people: promtool wants that word for word in every test."""
    folder = tmp_path_factory.mktemp("rules")
    written = []
    for file in rule_files():
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in found["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations", None)
        (folder / file.name).write_text(yaml.safe_dump(found), encoding="utf-8")
        written.append(str(folder / file.name))
    return written


def run(rules: list[str], folder: Path, series: dict[str, str], at: str, expected: dict[str, Any]) -> None:
    document = {
        "rule_files": rules,
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": at, **expected}],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_every_file_with_its_texts() -> None:
    done = promtool("check", "rules", *map(str, rule_files()))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_it_fires(name: str, bare_rules: list[str], tmp_path: Path) -> None:
    case: Case = CASES[name]
    labels = {"severity": SEVERITIES[name], **case.labels}
    expected = {"alertname": name, "exp_alerts": [{"exp_labels": labels}]}
    run(bare_rules, tmp_path, case.fires, case.at, expected)


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_fire(name: str, bare_rules: list[str], tmp_path: Path) -> None:
    case: Case = CASES[name]
    run(bare_rules, tmp_path, case.quiet, case.at, {"alertname": name, "exp_alerts": []})


@pytest.mark.parametrize("outcome", ["unreachable", "failed", "uncertain"])
def test_a_carrier_that_has_taken_nothing_yet_is_told_of(
    outcome: str, bare_rules: list[str], tmp_path: Path
) -> None:
    """No worker shows an outcome that has not occurred: there is no series of what was taken."""
    series = {
        f'tollwire_submits_total{{carrier="a",outcome="{outcome}"}}': "0+100x40",
        'tollwire_submits_total{carrier="b",outcome="refused"}': "0+100x40",
    }
    name = "TollwireWorkerSuccessLow"
    labels = {"severity": SEVERITIES[name], "carrier": "a"}
    run(bare_rules, tmp_path, series, "30m", {"alertname": name, "exp_alerts": [{"exp_labels": labels}]})


@pytest.mark.parametrize("loop", ["retention", "Bookkeeping.close_days", "Clockwork.make_partitions"])
def test_a_loop_of_ten_minutes_that_fails_each_time_is_told_of(
    loop: str, bare_rules: list[str], tmp_path: Path
) -> None:
    """It fails often at first, within one window, and then once in ten minutes."""
    series = {
        f'tollwire_loop_failures_total{{job="tollwire-ledger",loop="{loop}"}}': "6 7 8 8 9x4 10x8 11x9 12x9"
        " 13x9 14x9 15x9 16x9 17x9 18x9 19x9"
    }
    labels = {"severity": "warning", "job": "tollwire-ledger", "loop": loop}
    expected = {"alertname": "TollwireLoopFailing", "exp_alerts": [{"exp_labels": labels}]}
    run(bare_rules, tmp_path, series, "100m", expected)


def test_a_loop_of_ten_minutes_that_failed_in_one_outage_is_in_order(
    bare_rules: list[str], tmp_path: Path
) -> None:
    series = {'tollwire_loop_failures_total{job="tollwire-ledger",loop="retention"}': "6 7 8 8 9x4 10x90"}
    run(bare_rules, tmp_path, series, "45m", {"alertname": "TollwireLoopFailing", "exp_alerts": []})


# Series of the ledger processes by name and walk, and whether the alert rings with them after 20 minutes.
RESTARTS = {
    "the walk has not come to it again": (
        {("ledger-1", "messages"): "2x10 stale", ("ledger-2", "accounts"): "_x12 0+0x20"},
        True,
    ),
    "nobody is there": ({("ledger-1", "proof"): "2x10 stale"}, True),
    "under the same name": (
        {("ledger-1", "messages"): "2x10 stale", ("ledger-1", "accounts"): "0+0x30"},
        True,
    ),
    "the other one has not proved it": (
        {("ledger-1", "proof"): "2x10 stale", ("ledger-2", "accounts"): "0+0x30"},
        True,
    ),
    "a whole walk did not find it": (
        {("ledger-1", "messages"): "2x10 stale", ("ledger-2", "messages"): "_x14 0+0x20"},
        False,
    ),
    "it was mended before": ({("ledger-1", "messages"): "2x5 0+0x5 stale"}, False),
}


@pytest.mark.parametrize("case", RESTARTS)
def test_drift_outlives_a_restart_until_a_walk_is_whole(
    case: str, bare_rules: list[str], tmp_path: Path
) -> None:
    shown, rings = RESTARTS[case]
    series = {
        f'tollwire_ledger_findings{{instance="{instance}",walk="{walk}"}}': values
        for (instance, walk), values in shown.items()
    }
    alerts = [{"exp_labels": {"severity": "critical"}}] if rings else []
    run(bare_rules, tmp_path, series, "20m", {"alertname": "TollwireLedgerDrift", "exp_alerts": alerts})


@pytest.mark.parametrize("spelling", ["30", "30.0"])
def test_a_bucket_is_found_however_its_whole_number_is_spelled(
    spelling: str, bare_rules: list[str], tmp_path: Path
) -> None:
    """Nothing is submitted within 30 s. A bucket that is not found would leave the share empty."""
    series = {
        'tollwire_accept_to_submit_seconds_count{lane="normal"}': "0+600x90",
        f'tollwire_accept_to_submit_seconds_bucket{{lane="normal",le="{spelling}"}}': "0+0x90",
    }
    name = "TollwireSubmitDelayBudgetBurn"
    labels = {"severity": SEVERITIES[name], **CASES[name].labels}
    run(bare_rules, tmp_path, series, "70m", {"alertname": name, "exp_alerts": [{"exp_labels": labels}]})


def test_no_question_knows_one_spelling_of_a_whole_number_alone() -> None:
    asked = [rule["expr"] for rule in rules()] + [path.read_text("utf-8") for path in DASHBOARDS]
    assert asked
    assert [one for one in asked if WHOLE_BUCKET.search(one)] == []


def test_no_api_that_shows_its_metrics_is_told_of(bare_rules: list[str], tmp_path: Path) -> None:
    series = {
        'up{job="tollwire-worker",instance="worker-1"}': "1x30",
        'tollwire_build_info{job="tollwire-worker",instance="worker-1",version="1"}': "1x30",
    }
    name = "TollwireTargetsDown"
    labels = {"severity": SEVERITIES[name], "job": "tollwire-api"}
    run(bare_rules, tmp_path, series, "20m", {"alertname": name, "exp_alerts": [{"exp_labels": labels}]})


def test_the_watchdog_fires_whatever_is_there(bare_rules: list[str], tmp_path: Path) -> None:
    expected = {"alertname": ALWAYS, "exp_alerts": [{"exp_labels": {"severity": "none"}}]}
    run(bare_rules, tmp_path, {"up": "1x30"}, "1m", expected)
