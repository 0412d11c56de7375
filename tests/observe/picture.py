"""Draws the dashboards as one HTML page each, to look at them where there is no Grafana.

    python -m tests.observe.picture PROMETHEUS_PORT FOLDER [MINUTES]
    OBSERVE_PAGES=FOLDER make observe

It keeps to the JSON's grid, titles, legends and thresholds, and asks a Prometheus for the data. Units are its
own short forms; Grafana's options for tooltips, links and annotations are not drawn.
"""

import html
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.observe.prometheus import Prometheus
from tests.support.dashboards.files import written

COLUMN_PIXELS: Final = 66
ROW_PIXELS: Final = 34
POINTS: Final = 200
MARGIN: Final = (44, 8, 8, 14)  # left, right, top, bottom: of the curves inside their picture
LEGENDS_MAX: Final = 7
COLOURS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#fade2a")
NAMED: Final = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44"}
PAGE: Final = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ background: #111217; color: #ccccdc; font: 12px/1.3 sans-serif; margin: 8px; }}
#grid {{ position: relative; height: {height}px; width: {width}px; }}
.panel {{ position: absolute; background: #181b1f; border: 1px solid #2c3235; overflow: hidden; }}
.panel {{ box-sizing: border-box; }}
.panel b {{ display: block; padding: 3px 8px; font-weight: 500; }}
.row {{ position: absolute; font-size: 15px; padding-top: 8px; }}
.stat {{ display: block; text-align: center; font-size: 30px; }}
.legend {{ font-size: 10px; padding: 0 8px; height: 26px; overflow: hidden; }}
.none {{ color: #f2495c; text-align: center; padding-top: 30px; }}
</style><h2>{title}</h2><p>{text}</p><div id="grid">{panels}</div>"""


class Line(NamedTuple):
    """One curve."""

    name: str
    points: Sequence[tuple[float, float]]


def lines_of(prometheus: Prometheus, panel: dict[str, Any], start: float, end: float) -> list[Line]:
    step = max((end - start) / POINTS, 5)
    found = []
    for target in panel["targets"]:
        expr = target["expr"].replace("$__rate_interval", "1m")
        for one in prometheus.ask("query_range", query=expr, start=start, end=end, step=step)["result"]:
            points = [(float(at), float(value)) for at, value in one["values"]]
            found.append(Line(name_of(target["legendFormat"], one["metric"]), points))
    return found


def name_of(legend: str, labels: dict[str, str]) -> str:
    if legend == "__auto":
        return " ".join(labels.values())
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match.group(1), ""), legend)


def spoken(value: float, unit: str) -> str:
    """A number as a person reads it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    scale = next((scale for scale in (1e9, 1e6, 1e3) if abs(value) >= scale), 1.0)
    return f"{value / scale:.4g}{ {1e9: 'G', 1e6: 'M', 1e3: 'k', 1.0: ''}[scale] }"


def stack(lines: Sequence[Line]) -> list[Line]:
    """Each curve on the one before."""
    below: dict[float, float] = {}
    raised = []
    for line in lines:
        for at, value in line.points:
            below[at] = below.get(at, 0.0) + (value if math.isfinite(value) else 0.0)
        raised.append(Line(line.name, [(at, below[at]) for at, _ in line.points]))
    return raised


def curves(
    panel: dict[str, Any], lines: Sequence[Line], width: int, height: int, span: tuple[float, float]
) -> str:
    left, right, top, bottom = MARGIN
    defaults = panel["fieldConfig"]["defaults"]
    drawn = stack(lines) if defaults["custom"]["stacking"]["mode"] == "normal" else lines
    values = [value for line in drawn for _, value in line.points if math.isfinite(value)]
    highest = (max(values, default=0.0) or 1.0) * 1.1

    def x(at: float) -> float:
        return left + (at - span[0]) / (span[1] - span[0]) * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - max(value, 0.0) / highest * (height - top - bottom)

    parts = [_scale(highest * share, defaults["unit"], width, y) for share in (0.0, 0.5, 0.9)]
    is_marked = defaults["custom"]["thresholdsStyle"]["mode"] == "line"
    bounds = [step for step in defaults["thresholds"]["steps"][1:] if is_marked and step["value"] <= highest]
    parts += [_straight(y(step["value"]), width, NAMED[step["color"]], "4 3") for step in bounds]
    for nth, line in enumerate(drawn):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points if math.isfinite(value))
        colour = COLOURS[nth % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def _scale(value: float, unit: str, width: int, y: Callable[[float], float]) -> str:
    text = f'<text x="2" y="{y(value) + 3:.0f}" fill="#8e8e9a" font-size="9">{spoken(value, unit)}</text>'
    return _straight(y(value), width, "#24282d", "") + text


def _straight(height: float, width: int, colour: str, dashes: str) -> str:
    return (
        f'<line x1="{MARGIN[0]}" x2="{width - MARGIN[1]}" y1="{height:.1f}" y2="{height:.1f}" '
        f'stroke="{colour}" stroke-dasharray="{dashes}"/>'
    )


def legend(lines: Sequence[Line], unit: str) -> str:
    names = [
        f'<span style="color:{COLOURS[nth % len(COLOURS)]}">&#9632;</span> '
        f"{html.escape(line.name)} {spoken(line.points[-1][1], unit)}"
        for nth, line in enumerate(lines[:LEGENDS_MAX])
    ]
    more = f" and {len(lines) - LEGENDS_MAX} more" if len(lines) > LEGENDS_MAX else ""
    return f'<div class="legend">{" &nbsp; ".join(names)}{more}</div>'


def stat(panel: dict[str, Any], lines: Sequence[Line]) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    value = lines[0].points[-1][1]
    passed = [
        step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]
    ]
    text = spoken(value, defaults["unit"])
    return f'<span class="stat" style="color:{NAMED[passed[-1]["color"]]}">{text}</span>'


def drawn(prometheus: Prometheus, panel: dict[str, Any], start: float, end: float) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN_PIXELS - 6, place["h"] * ROW_PIXELS - 6
    x, y = place["x"] * COLUMN_PIXELS, place["y"] * ROW_PIXELS
    box = f"left:{x}px;top:{y}px;width:{width}px;height:{height}px"
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class="row" style="{box}">{title}</div>'
    lines = lines_of(prometheus, panel, start, end)
    if not lines:
        inside = '<div class="none">No data</div>'
    elif panel["type"] == "stat":
        inside = stat(panel, lines)
    else:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        inside = curves(panel, lines, width, height - 54, (start, end)) + legend(lines, unit)
    return f'<div class="panel" style="{box}"><b>{title}</b>{inside}</div>'


def page(prometheus: Prometheus, dashboard: dict[str, Any], start: float, end: float) -> str:
    panels = dashboard["panels"]
    return PAGE.format(
        title=html.escape(dashboard["title"]),
        text=html.escape(dashboard["description"]),
        height=max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW_PIXELS,
        width=24 * COLUMN_PIXELS,
        panels="".join(drawn(prometheus, panel, start, end) for panel in panels),
    )


def main(port: str, folder: str, minutes: str = "10") -> None:
    end = time.time()
    start = end - float(minutes) * 60
    for name, dashboard in written().items():
        file = Path(folder) / f"{name.removesuffix('.json')}.html"
        file.write_text(page(Prometheus(int(port)), dashboard, start, end), encoding="utf-8")
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
