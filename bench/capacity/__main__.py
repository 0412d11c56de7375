"""`python -m bench.capacity`: pods, disks and cost for a volume, from measured figures and a price table."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from bench.capacity.inputs import ASSUMED, MEASURED, measured_of, read_assumed, read_measured
from bench.capacity.tables import DOCUMENT, tables, written

SHOWN = ("sizes", "bill", "policies")


@click.group(invoke_without_command=True)
@click.pass_context
def capacity(context: click.Context) -> None:
    """Write the tables of docs/scaling.md anew; or see the commands."""
    if context.invoked_subcommand is None:
        text = written(read_measured(), read_assumed(), DOCUMENT.read_text(encoding="utf-8"))
        DOCUMENT.write_text(text, encoding="utf-8")
        click.echo(f"wrote {DOCUMENT}")


@capacity.command()
@click.argument("millions", nargs=-1, type=click.FloatRange(min=0, min_open=True), required=True)
@click.option(
    "--file", "path", type=click.Path(path_type=Path, exists=True), default=ASSUMED,
    help="Assumptions and prices of your own, in the form of bench/capacity/assumptions.toml.",
)  # fmt: skip
def show(millions: Sequence[float], path: Path) -> None:
    """Show sizes and costs for these volumes, in millions of messages a day."""
    found = tables(read_measured(), read_assumed(path), millions)
    click.echo("\n".join(found[name] for name in SHOWN))


@capacity.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def take(run: Path) -> None:
    """Take the measured figures from a RUN of the bench's scenario `keeping`, and write the document."""
    measured = measured_of(run.read_bytes())
    MEASURED.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
    text = written(measured, read_assumed(), DOCUMENT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(text, encoding="utf-8")
    click.echo(f"wrote {MEASURED} and {DOCUMENT}")


if __name__ == "__main__":
    capacity()
