"""Where the dashboards are, and what is in them."""

import json
from pathlib import Path
from typing import Any

from tests.support.dashboards.api_and_money import API_AND_MONEY
from tests.support.dashboards.callbacks import CALLBACKS
from tests.support.dashboards.ledger import LEDGER
from tests.support.dashboards.overview import OVERVIEW
from tests.support.dashboards.panels import as_json
from tests.support.dashboards.stores import STORES
from tests.support.dashboards.worker_and_carriers import WORKER_AND_CARRIERS

FOLDER = Path(__file__).resolve().parents[3] / "charts" / "tollwire" / "dashboards"
DASHBOARDS = (OVERVIEW, API_AND_MONEY, WORKER_AND_CARRIERS, CALLBACKS, STORES, LEDGER)


def documents() -> dict[str, str]:
    """Every file, by its name."""
    return {
        f"{dashboard.name.removeprefix('tollwire-')}.json": json.dumps(as_json(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }


def written() -> dict[str, dict[str, Any]]:
    """What the chart has now."""
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))}


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(panel's title, expression) of every query."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
