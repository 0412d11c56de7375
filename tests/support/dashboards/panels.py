"""What dashboards are made of: queries, panels, rows, and the JSON that Grafana 10.4 or newer reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

COLUMNS: Final = 24  # Grafana's grid
SCHEMA: Final = 39
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WINDOW: Final = "$__rate_interval"
COLOURS: Final = ("green", "orange", "red")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and how its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `bounds`: where it turns orange, then red."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    text: str = ""
    is_stacked: bool = False
    bounds: Sequence[float] = ()
    is_more_better: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page; the name of its file is its identity."""

    name: str
    title: str
    text: str
    rows: Sequence[Row] = field(default_factory=tuple)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """How often a second, summed over all processes."""
    return f"sum{_by(by)}(rate({metric}{_where(where)}[{WINDOW}]))"


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{_where(where)}[{WINDOW}])))"


def quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    """Half, nearly all, all but one in a hundred."""
    return tuple(
        Query(quantile(share, metric, "", where), f"P{share * 100:.0f}") for share in (0.5, 0.95, 0.99)
    )


def or_zero(expr: str) -> str:
    """A line at zero while nothing of it ever happened: a counter appears with its first event."""
    return f"{expr} or vector(0)"


def line(title: str, expr: str, legend: str = "", **more: Any) -> Panel:
    """Lines of one expression."""
    return Panel(title, (Query(expr, legend),), **more)


def lines(title: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """Lines of several expressions, each with its legend."""
    return Panel(title, tuple(Query(*query) for query in queries), **more)


def number(title: str, expr: str, legend: str = "", **more: Any) -> Panel:
    """Numbers of this moment."""
    return Panel(title, (Query(expr, legend),), kind="stat", **{"width": 4, "height": 4, **more})


def as_json(dashboard: Dashboard) -> dict[str, Any]:
    """The document that Grafana imports, or finds in a ConfigMap."""
    return {
        "uid": dashboard.name,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["tollwire"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource()]},
        "annotations": {"list": []},
        "links": [
            {
                "title": "Tollwire", "type": "dashboards", "tags": ["tollwire"], "asDropdown": True,
                "includeVars": True, "keepTime": True,
            }
        ],
        "panels": list(_placed(dashboard.rows)),
    }  # fmt: skip


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
    }


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Panels from left to right and from top to bottom, each row under its heading."""
    identity, y = 0, 0
    for row in rows:
        identity += 1
        yield {
            "id": identity, "type": "row", "title": row.title, "collapsed": False, "panels": [],
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        }  # fmt: skip
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            identity += 1
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            yield _panel(panel, identity, place)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel, identity: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + nth), "datasource": DATASOURCE, "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "stat", "range": panel.kind != "stat",
                "editorMode": "code",
            }
            for nth, query in enumerate(panel.queries)
        ],
    }  # fmt: skip


def _field(panel: Panel) -> dict[str, Any]:
    colours = COLOURS[::-1] if panel.is_more_better else COLOURS
    steps: list[dict[str, Any]] = [{"color": colours[0], "value": None}]
    steps += [
        {"color": colour, "value": bound} for colour, bound in zip(colours[1:], panel.bounds, strict=False)
    ]
    found: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        found["min"] = 0
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.is_stacked else 8,
            "showPoints": "never",
            "spanNulls": True,
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.bounds else "off"},
        }
    return found


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "colorMode": "background" if panel.bounds else "value",
            "graphMode": "none",
            "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
