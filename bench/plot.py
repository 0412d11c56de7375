"""A run's figures that have a yardstick, as bars in an SVG: nothing but text is needed to draw them."""

from html import escape
from pathlib import Path
from typing import Final

from bench.report import Figure, Report, shown

BAR_HEIGHT: Final = 16
ROW_HEIGHT: Final = 26
LABELS_WIDTH: Final = 300
BARS_WIDTH: Final = 360
TEXT_WIDTH: Final = 260
TOP: Final = 46
# A bar this many times the yardstick's ends at the edge.
RATIO_MAX: Final = 2.0
OURS, YARDSTICK = "#2b6cb0", "#a0aec0"
FONT: Final = 'font-family="sans-serif" font-size="12" fill="#1a202c"'
TITLE: Final = "Tollwire: figures as ratios to their yardsticks in the same run"


def draw(report: Report, path: Path) -> Path:
    """Write the picture and return where it is."""
    figures = [figure for figure in report.figures if figure.ratio is not None]
    height = TOP + ROW_HEIGHT * max(len(figures), 1) + ROW_HEIGHT
    width = LABELS_WIDTH + BARS_WIDTH + TEXT_WIDTH
    unit_x = LABELS_WIDTH + BARS_WIDTH / RATIO_MAX
    rows = [_row(figure, TOP + ROW_HEIGHT * place) for place, figure in enumerate(figures)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15">{TITLE}, {report.begun_at:%Y-%m-%d %H:%M} UTC</text>',
        *rows,
        f'<path d="M{unit_x} {TOP - 6}V{height - ROW_HEIGHT}" stroke="{YARDSTICK}" stroke-dasharray="4 3"/>',
        f'<text x="{unit_x}" y="{height - 8}" text-anchor="middle">1.0: the yardstick</text>',
        "</svg>",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _row(figure: Figure, y: int) -> str:
    found = figure.ratio.median if figure.ratio is not None else 0.0
    length = min(found, RATIO_MAX) / RATIO_MAX * BARS_WIDTH
    base = y + BAR_HEIGHT - 4
    text = f"{found:.2f} x {figure.yardstick} ({shown(figure.spread.median)} {figure.unit})"
    return (
        f'<text x="{LABELS_WIDTH - 8}" y="{base}" text-anchor="end">{escape(figure.name)}</text>'
        f'<rect x="{LABELS_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" fill="{OURS}"/>'
        f'<text x="{LABELS_WIDTH + BARS_WIDTH + 8}" y="{base}">{escape(text)}</text>'
    )
