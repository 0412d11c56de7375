"""Each dashboard is one to Grafana's own types, and each of its queries one to promtool."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.observe.test_rules import promtool
from tests.support.dashboards.files import expressions, written

DASHBOARDS = written()


def losses(ours: Any, read: Any, place: str = "") -> list[str]:
    """What Grafana's types did not take as it was written; they drop what they do not know."""
    match ours, read:
        case dict(), dict():
            lost = [f"{place}/{name}" for name in ours if name not in read]
            pairs = [(f"{place}/{name}", ours[name], read[name]) for name in ours if name in read]
        case list(), list() if len(ours) == len(read):
            lost = []
            pairs = [(f"{place}[{nth}]", *pair) for nth, pair in enumerate(zip(ours, read, strict=True))]
        case _:
            return [] if ours == read else [place]
    return lost + [loss for where, mine, found in pairs for loss in losses(mine, found, where)]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_types_take_all_of_it(name: str) -> None:
    register_default_plugins()
    taken = Dashboard.from_json(DASHBOARDS[name])
    assert losses(DASHBOARDS[name], json.loads(JSONEncoder().encode(taken))) == []


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    rules = [
        {
            "record": "tried:query",
            "expr": expr.replace("$__rate_interval", "1m"),
            "labels": {"of": f"{name} {nth}"},
        }
        for name, dashboard in DASHBOARDS.items()
        for nth, (_, expr) in enumerate(expressions(dashboard))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
