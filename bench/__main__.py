"""`python -m bench`: how fast Tollwire is here, and against what."""

import asyncio
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from bench import accept as accepting
from bench import end_to_end
from bench.figures import ratio, spread_of
from bench.instance import scratch_folder
from bench.load import Outcome, Plan
from bench.plot import draw
from bench.report import Report, about
from bench.scenarios import SCENARIOS, Options
from cli.services import parse_scale

MEBIBYTE = 2**20
FILES_MAX = 65_536
_names = "\n\n".join(
    f"{one.name}{' (long)' if one.is_long else ''}: {one.about}" for one in SCENARIOS.values()
)


_folder = click.option(
    "--folder", type=click.Path(path_type=Path, exists=True), help="Where scratch folders are made."
)
_scale = click.option("--scale", default="", metavar="NAME=N,…", help="How many of each service.")
_rate = click.option(
    "--rate", default=0.0, help="Offered a second, in an open model; 0: as fast as answers come."
)


@click.group()
def bench() -> None:
    """Measure Tollwire beside yardsticks of the same run. bench/README.md says what is measured and how."""
    # As Ctrl-C: what was started is stopped, and the scratch folder goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # For all that is started: a burst has thousands of connections.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX), hard))


@bench.command(help=f"Measure scenarios by name, or all that take a few minutes.\n\n{_names}")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--long", "is_long", is_flag=True, help="Those that take long, instead of those that do not.")
@click.option("--rounds", default=3, show_default=True, help="Of each figure; the table shows their median.")
@_scale
@_folder
@click.option("--stored", default=5_000_000, show_default=True, help="Messages before growth is measured.")
@click.option("--soak-minutes", default=30, show_default=True, help="How long the soak lasts.")
def run(
    names: Sequence[str], is_long: bool, rounds: int, scale: str, folder: Path | None, stored: int,
    soak_minutes: int,
) -> None:  # fmt: skip
    """Measure scenarios and keep what came of them."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise click.BadArgumentUsage(f"There is no {unknown[0]!r}; there are {', '.join(SCENARIOS)}.")
    whole = [one for one in SCENARIOS.values() if one.is_long is is_long]
    chosen = [SCENARIOS[name] for name in names] or whole
    counts = _counts(scale)
    options = Options(rounds, folder, counts, stored, soak_minutes)
    report = Report()
    told = about()
    build = "" if told["is_python_optimized"] else " (built without optimizations)"
    click.echo(
        f"{told['commit'][:10]}{' (changed)' if told['is_changed'] else ''}, {told['cores']} cores, "
        f"Python {told['python']}{build}"
    )
    try:
        for one in chosen:
            click.echo(f"{one.name}: {one.about}")
            report.scenario = one.name
            asyncio.run(one.measure(report, options))
    finally:
        path = report.keep()
        click.echo(f"kept in {path} and {draw(report, path.with_suffix('.svg'))}")


@bench.command()
@click.option("--messages", default=20_000, show_default=True)
@click.option("--connections", default=128, show_default=True)
@_rate
@click.option("--rounds", default=1, show_default=True)
@_scale
@click.option("--latency", default=0.0, help="Seconds that the carrier takes to answer.")
@click.option("--receipt-delay", default=0.1, show_default=True, help="Seconds until its receipt.")
@_folder
def e2e(
    messages: int, connections: int, rate: float, rounds: int, scale: str, latency: float,
    receipt_delay: float, folder: Path | None,
) -> None:  # fmt: skip
    """Run the whole way once, as you like it: accept, worker, carrier, receipt, capture, callback."""
    counts = _counts(scale)
    rules = {"latency": latency, "receipt_delay": receipt_delay}

    async def measure() -> None:
        with scratch_folder(folder) as scratch:
            async with end_to_end.rig(scratch, scale=counts, **rules) as whole:
                plan = Plan(connections=connections, requests=messages, rate=rate)
                for _ in range(rounds):
                    show_run(await end_to_end.carry(whole, plan))

    asyncio.run(measure())


@bench.command()
@click.option("--connections", default=128, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each round.")
@_rate
@click.option("--rounds", default=3, show_default=True)
@_scale
def accept(connections: int, seconds: float, rate: float, rounds: int, scale: str) -> None:
    """Accept alone, as you like it: no worker running, beside the bare aiohttp handler."""
    counts = _counts(scale)

    async def measure() -> None:
        ours, bare = [], []
        with scratch_folder() as folder:
            async with accepting.desk(folder, scale=counts) as whole:
                plan = Plan(connections=connections, seconds=seconds, rate=rate)
                for _ in range(rounds):
                    bare.append(await accepting.bare(whole, plan))
                    ours.append(await accepting.accept(whole, plan))
                    show_load("bare handler", bare[-1])
                    show_load("accept", ours[-1])
        rates, bare_rates = [one.rate for one in ours], [one.rate for one in bare]
        click.echo(
            f"accept {spread_of(rates).median:,.0f}/s is {ratio(rates, bare_rates).median:.2f} "
            f"of the bare handler's {spread_of(bare_rates).median:,.0f}/s"
        )

    asyncio.run(measure())


def _counts(scale: str) -> dict[str, int]:
    counts = parse_scale(scale)
    del counts["simulator"]  # the bench has a carrier of its own
    return counts


def show_load(what: str, outcome: Outcome) -> None:
    """One line of a run of requests."""
    shares = ", ".join(
        f"P{share * 100:g} {outcome.latency_ms(share):.1f}" for share in (0.5, 0.95, 0.99, 0.999)
    )
    codes = " ".join(f"{count} x {code}" for code, count in outcome.codes.items())
    click.echo(f"{what}: {outcome.rate:,.0f}/s, {shares} ms ({codes})")


def show_run(run: end_to_end.Run) -> None:
    """What a run of the whole way found."""
    show_load("accept", run.load)
    click.echo(
        f"to the last submit {run.submit_rate:,.0f}/s, capture {run.capture_rate:,.0f}/s, "
        f"callback {run.rate:,.0f}/s; WAL {run.wal_bytes / run.messages:,.0f} bytes a message"
    )
    click.echo(
        f"accept to submit: {_delays(run.submit_delays_ms)}; to callback: {_delays(run.callback_delays_ms)}"
    )
    cpu = "  ".join(f"{name} {seconds:.2f}" for name, seconds in run.cpu_seconds.items())
    memory = "  ".join(f"{name} {size / MEBIBYTE:.0f}" for name, size in run.memory_bytes.items())
    click.echo(f"CPU s: {cpu}\nMB: {memory}\nexact: {run.messages:,} accepted, captured, called back")


def _delays(found: Mapping[float, float]) -> str:
    return ", ".join(f"P{share * 100:g} {found[share]:,.0f} ms" for share in end_to_end.SHARES)


if __name__ == "__main__":
    bench()
