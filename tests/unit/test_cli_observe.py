"""`tollwire up --observe` where there is no Prometheus: it says so, and everything else starts."""

from rich.console import Console

from cli.home import Home
from cli.instance import Instance
from cli.observe import RULES, target_of
from cli.port_choice import PortChoice
from cli.screen import Screen
from cli.services import Launch


def test_without_a_prometheus_a_note_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    screen = Screen(Console(quiet=True), tmp_path / "log")
    instance = Instance(Home(tmp_path / "home"), {}, {"api": 1}, screen, is_observed=True)
    assert instance._observer(PortChoice({}, {}), []) is None
    (step,) = screen.steps
    assert step.kind == "warning"
    assert "Nothing is observed: prometheus was not found: apt install prometheus" in step.text


def test_the_rules_of_a_checkout_are_those_of_the_chart():
    assert {file.name for file in RULES.glob("*.yaml")} >= {"slo.yaml", "platform.yaml"}


def test_all_instances_of_a_service_are_one_job():
    targets = [target_of(Launch(f"api-{nth}", "api", {}, 8080, 9000 + nth)) for nth in (1, 2)]
    assert {target.job for target in targets} == {"tollwire-api"}
    assert [(target.instance, target.port) for target in targets] == [("api-1", 9001), ("api-2", 9002)]
