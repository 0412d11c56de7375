"""Rules and dashboards: each alert has its page, its test and its severity, every metric is ours."""

import re
from collections.abc import Iterator

import pytest

from tests.observe.rules import ALWAYS, RUNBOOKS, Case, alerts, cases, metrics_in, recordings, rules
from tests.support import metrics_table
from tests.support.dashboards.files import FOLDER, documents, expressions, written

SEVERITIES = {"critical", "warning", "none"}
# The headings of a page, in this order: who was woken up reads from the top.
HEADINGS = ["What it means", "First three looks", "Cure", "Whom to wake"]
# What Prometheus itself, its client library and kube-state-metrics show.
OTHERS = {
    "up",
    "ALERTS",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "kube_job_failed",
}
TARGET_LABELS = {"job", "instance", "le", "slo"}
# What a Prometheus Operator says of each target: a label of ours with such a name is stored as exported_….
TAKEN_LABELS = {"namespace", "service", "pod", "container", "endpoint", "node"}
SELECTOR = re.compile(r"\b(tollwire_\w+?)(?:_bucket|_count|_sum)?\{([^}]*)\}")
HEX = re.compile(r"(?<![\d+-])0x\d")

ALERTS = alerts()
NAMES = [alert.name for alert in ALERTS]
CASES = cases()
METRICS = {metric.name: metric for metric in metrics_table.metrics()}
KNOWN = {*METRICS, *recordings(), *OTHERS}


def all_expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of every rule and every panel."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, dashboard in written().items():
        for title, expr in expressions(dashboard):
            yield f"{name}: {title}", expr


def test_every_alert_has_a_severity_and_a_name_of_its_own() -> None:
    assert {alert.name for alert in ALERTS if alert.severity not in SEVERITIES} == set()
    assert sorted(NAMES) == sorted(set(NAMES))


def test_every_alert_has_series_with_which_it_fires_and_with_which_it_does_not() -> None:
    """They are tried in tests/observe."""
    assert set(CASES) | {ALWAYS} == set(NAMES)
    assert [name for name, case in CASES.items() if not case.fires or not case.quiet] == []


@pytest.mark.parametrize("name", CASES)
def test_series_are_of_metrics_that_the_alert_reads(name: str) -> None:
    case: Case = CASES[name]
    bare = {re.sub(r"\{.*", "", series) for series in [*case.fires, *case.quiet]}
    assert {re.sub(r"_(bucket|count|sum)$", "", one) for one in bare} - KNOWN == set()
    values = [*case.fires.values(), *case.quiet.values()]
    assert [value for value in values if HEX.search(str(value))] == [], "promtool reads 0x30 as 48"


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_has_a_page_that_says_what_to_do(alert) -> None:
    page = RUNBOOKS / f"{alert.name}.md"
    assert alert.annotations["runbook_url"] == f"docs/runbooks/{alert.name}.md"
    assert alert.annotations["summary"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    looks = text.partition("## First three looks\n")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. ", looks, re.MULTILINE)) == 3
    assert f"severity: {alert.severity}" in text


def test_every_page_is_of_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*NAMES, "README"}


def test_every_metric_is_one_that_the_code_has() -> None:
    wrong = {where: metrics_in(expr) - KNOWN for where, expr in all_expressions()}
    assert {where: names for where, names in wrong.items() if names} == {}


def test_every_label_is_one_that_the_metric_has() -> None:
    wrong = [
        f"{where}: {name} has no {label}"
        for where, expr in all_expressions()
        for name, matchers in SELECTOR.findall(expr)
        for label in re.findall(r"(\w+)\s*[=!]", matchers)
        if label not in {*METRICS[name].labels, *TARGET_LABELS}
    ]
    assert wrong == []


def test_no_question_rests_on_a_label_that_means_another_thing_in_a_cluster() -> None:
    wrong = [
        f"{where}: {label}"
        for where, expr in all_expressions()
        if metrics_in(expr) & METRICS.keys()
        for label in TAKEN_LABELS & set(re.findall(r"\w+", re.sub(r'"[^"]*"', "", expr)))
    ]
    assert wrong == []


def test_the_dashboards_are_what_is_written_in_tests_support() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert found == documents(), "write them anew: python -m tests.support.dashboards"


@pytest.mark.parametrize("name", sorted(written()))
def test_a_dashboard_is_one_that_grafana_loads(name: str) -> None:
    """Unique ids, panels that do not overlap and fit the grid, one source of data to be chosen."""
    dashboard = written()[name]
    panels = dashboard["panels"]
    assert dashboard["uid"] == f"tollwire-{name.removesuffix('.json')}"
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    drawn = [panel for panel in panels if panel["type"] != "row"]
    assert all(panel["datasource"]["uid"] == "${datasource}" and panel["title"] for panel in drawn)
    assert all(target["expr"] for panel in drawn for target in panel["targets"])
