"""The tables of docs/scaling.md."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.capacity.costs import Prices
from bench.capacity.inputs import Assumed, Measured
from bench.capacity.sizes import NATS, POSTGRES, SERVICES, VALKEY, Cell, Sizing
from shared.runtime.streams import STREAMS

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
VOLUMES_MILLION_A_DAY: Final = (10.0, 50.0, 100.0, 500.0)
MILLION: Final = 1_000_000
# The volume that the earlier estimate was made for.
ESTIMATED_MILLION: Final = 100.0
POLICIES: Final = ("usual", "lean")
PROCESSES: Final = (*SERVICES, "ledger", POSTGRES, NATS, VALKEY)
KILOBYTE: Final = 1_000
# Below it an amount of TB or vCPU is shown with a decimal.
FEW: Final = 10
Row = tuple[str, Callable[[Cell], object]]

CELL_ROWS: Final[Sequence[Row]] = (
    ("pods of api, worker, dlr, ledger", lambda c: ", ".join(str(pods.count) for pods in c.pods.values())),
    ("CPU that one of each requests", lambda c: ", ".join(f"{p.request_vcpu:g}" for p in c.pods.values())),
    ("PostgreSQL, each of three: vCPU", lambda c: c.database.vcpu),
    ("memory", lambda c: f"{c.database.memory_gb} GB"),
    ("disk", lambda c: f"{amount(c.database.disk_tb)} TB"),
    ("of it in use", lambda c: f"{amount(c.database.stored_tb)} TB"),
    ("`max_connections`", lambda c: c.database.connections),
    ("partitions", lambda c: f"{c.database.partitions:,}"),
    ("WAL at the peak", lambda c: f"{amount(c.database.wal_mb_a_second)} MB/s"),
    ("WAL a day", lambda c: f"{amount(c.database.wal_tb_a_day)} TB"),
    ("restore of a base backup", lambda c: f"{amount(c.database.restore_hours)} h"),
    ("NATS, each of three: vCPU", lambda c: c.nats.vcpu),
    ("`TOLLWIRE_NATS_STORE_BYTES`", lambda c: f"{c.nats.store_gb} GB"),
    ("disk for streams", lambda c: f"{c.nats.disk_gb} GB"),
    ("streams", lambda _: len(STREAMS)),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One volume under one policy: its cells and the bill of all of them."""

    million_a_day: float
    cells: Sequence[Cell]
    bill: dict[str, float]
    messages_a_month: float

    @property
    def total(self) -> float:
        """US dollars a month."""
        return sum(self.bill.values())

    @property
    def per_million(self) -> float:
        """US dollars for a million messages."""
        return self.total / (self.messages_a_month / MILLION)


def sheet(measured: Measured, assumed: Assumed, million_a_day: float, policy: str) -> Sheet:
    """Compute one volume."""
    cells = Sizing(measured, assumed, policy).cells_for(million_a_day * MILLION)
    bills = [Prices(measured, assumed).bill(cell) for cell in cells]
    bill = {part: sum(one[part] for one in bills) for part in bills[0]}
    month = million_a_day * MILLION * assumed.load["days_a_month"].value
    return Sheet(million_a_day, cells, bill, month)


def written(measured: Measured, assumed: Assumed, text: str) -> str:
    """The document with the tables that are right now.

    Raises:
        ValueError: a table has lost its marks.
    """
    for name, table in tables(measured, assumed, VOLUMES_MILLION_A_DAY).items():
        begin, end = f"<!-- {name}: python -m bench.capacity -->\n", f"<!-- end of {name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{DOCUMENT.name} has no marks for the table {name!r}")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def tables(measured: Measured, assumed: Assumed, volumes: Sequence[float]) -> dict[str, str]:
    """Every table, by the name of its marks."""
    sheets = {policy: [sheet(measured, assumed, volume, policy) for volume in volumes] for policy in POLICIES}
    return {
        "measured": _measured(measured),
        "sizes": _sizes(sheets["usual"]),
        "bill": _bill(sheets["usual"]),
        "earlier": _earlier(measured, assumed),
        "policies": _policies(sheets),
        "kept": _kept(measured, assumed),
        "assumptions": _assumptions(assumed),
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    titles = list(head)
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def amount(value: float) -> str:
    """A size with a decimal where it is small."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < FEW else f"{value:,.0f}"


def dollars(value: float) -> str:
    """An amount of money that nobody should think exact."""
    return f"${value:,.0f}" if value >= FEW else f"${value:,.2f}"


def _volumes(sheets: Sequence[Sheet]) -> list[str]:
    return [f"{one.million_a_day:g} million" for one in sheets]


def _measured(measured: Measured) -> str:
    rows: list[tuple[object, ...]] = [
        (name, f"{measured.cpu_us[name]:.0f} µs", f"{measured.memory_mb.get(name, 0):.0f} MB")
        for name in PROCESSES
    ]
    total = sum(measured.cpu_us[name] for name in PROCESSES)
    memory = sum(measured.memory_mb.get(name, 0) for name in PROCESSES)
    rows.append(("together", f"{total:.0f} µs", f"{memory:.0f} MB"))
    table = _table(["process", "CPU a message", "memory"], rows)
    return (
        f"{measured.source}; {measured.cores} CPUs, everything on one machine. "
        f"WAL a message: {measured.wal_bytes / KILOBYTE:.1f} kB.\n\n{table}"
    )


def _sizes(sheets: Sequence[Sheet]) -> str:
    rows: list[list[object]] = [
        ["messages a second, average", *(f"{one.million_a_day * MILLION / 86_400:,.0f}" for one in sheets)],
        ["at the peak", *(f"{sum(c.peak_a_second for c in one.cells):,.0f}" for one in sheets)],
        ["**cells**", *(f"**{len(one.cells)}**" for one in sheets)],
    ]
    rows += [[name, *(show(one.cells[0]) for one in sheets)] for name, show in CELL_ROWS]
    return _table(["for each cell", *_volumes(sheets)], rows)


def _bill(sheets: Sequence[Sheet]) -> str:
    rows: list[list[object]] = [
        [part, *(dollars(one.bill[part]) for one in sheets)] for part in sheets[0].bill
    ]
    rows.append(["**a month**", *(f"**{dollars(one.total)}**" for one in sheets)])
    rows.append(["**a million messages**", *(f"**{dollars(one.per_million)}**" for one in sheets)])
    return _table(["all cells together", *_volumes(sheets)], rows)


def _earlier(measured: Measured, assumed: Assumed) -> str:
    earlier = assumed.price["earlier_estimate"].value
    rows: list[list[object]] = [["an earlier estimate, of which only the sum is known", dollars(earlier), ""]]
    for policy in POLICIES:
        one = sheet(measured, assumed, ESTIMATED_MILLION, policy)
        change = (one.total - earlier) / earlier
        rows.append([f"these tables, {policy} retention", dollars(one.total), f"{change:+.0%}"])
    return _table([f"{ESTIMATED_MILLION:g} million a day", "a month", ""], rows)


def _policies(sheets: dict[str, list[Sheet]]) -> str:
    rows: list[list[object]] = []
    for policy, found in sheets.items():
        rows.append([f"{policy}: cells", *(len(one.cells) for one in found)])
        stored = [sum(cell.database.stored_tb for cell in one.cells) for one in found]
        rows.append([f"{policy}: stored, one copy", *(f"{amount(size)} TB" for size in stored)])
        rows.append([f"{policy}: a month", *(dollars(one.total) for one in found)])
        rows.append([f"{policy}: a million messages", *(dollars(one.per_million) for one in found)])
    return _table(["retention", *_volumes(sheets["usual"])], rows)


def _kept(measured: Measured, assumed: Assumed) -> str:
    by_policy = {policy: Sizing(measured, assumed, policy).kept_bytes() for policy in POLICIES}
    rows = [
        (
            kept.name,
            f"{by_policy['usual'][kept.name][0] / KILOBYTE:.2f} kB",
            *(f"{by_policy[policy][kept.name][1]:g} days" for policy in POLICIES),
            f"`{kept.setting}`" if kept.setting.isupper() else kept.setting,
        )
        for kept in assumed.kept
    ]
    return _table(["what", "a message", "usual", "lean", "setting"], rows)


def _assumptions(assumed: Assumed) -> str:
    rows = [
        (f"`{section}.{name}`", f"{one.value:g} {one.unit}", one.why)
        for section, found in assumed.sections().items()
        for name, one in found.items()
    ]
    return _table(["assumption", "", "why"], rows)
