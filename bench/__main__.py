"""`python -m bench`: how fast Tollwire is here, and against what."""

import asyncio
import dataclasses
from collections.abc import Mapping

import click

from bench.accept import accept as accept_messages
from bench.accept import bare as ask_bare
from bench.accept import desk
from bench.end_to_end import SHARES, Run, carry, rig
from bench.figures import ratio, spread_of
from bench.instance import scratch_folder
from bench.load import Outcome, Plan

MEBIBYTE = 2**20


@click.group()
def bench() -> None:
    """Measure."""


@bench.command()
@click.option("--messages", default=20_000, show_default=True)
@click.option("--connections", default=128, show_default=True)
@click.option("--rate", default=0.0, help="Offered a second, in an open model; 0: as fast as answers come.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--latency", default=0.0, help="Seconds that the carrier takes to answer.")
@click.option(
    "--receipt-delay", default=0.1, show_default=True, help="Seconds from its answer to its receipt."
)
def e2e(
    messages: int, connections: int, rate: float, rounds: int, latency: float, receipt_delay: float
) -> None:
    """The whole way: accept, worker, carrier, receipt, capture, callback; each count is proved."""

    async def run() -> None:
        with scratch_folder() as folder:
            async with rig(folder, latency=latency, receipt_delay=receipt_delay) as whole:
                port = whole.instance.api_port
                plan = Plan(port=port, connections=connections, requests=messages, rate=rate)
                for _ in range(rounds):
                    show_run(await carry(whole, plan))

    asyncio.run(run())


@bench.command()
@click.option("--connections", default=128, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each round.")
@click.option("--rate", default=0.0, help="Offered a second, in an open model; 0: as fast as answers come.")
@click.option("--rounds", default=3, show_default=True)
def accept(connections: int, seconds: float, rate: float, rounds: int) -> None:
    """Accept alone, no worker running, beside the bare aiohttp handler."""

    async def run() -> None:
        ours, bare = [], []
        with scratch_folder() as folder:
            async with desk(folder) as whole:
                plan = Plan(port=whole.instance.api_port, connections=connections, seconds=seconds, rate=rate)
                for _ in range(rounds):
                    bare.append(await ask_bare(whole, dataclasses.replace(plan, port=whole.bare.port)))
                    ours.append(await accept_messages(whole, plan))
                    show_load("bare handler", bare[-1])
                    show_load("accept", ours[-1])
        rates, bare_rates = [one.rate for one in ours], [one.rate for one in bare]
        click.echo(
            f"accept {spread_of(rates).median:,.0f}/s is {ratio(rates, bare_rates).median:.2f} "
            f"of the bare handler's {spread_of(bare_rates).median:,.0f}/s"
        )

    asyncio.run(run())


def show_load(what: str, outcome: Outcome) -> None:
    """One line of a run of requests."""
    shares = ", ".join(
        f"P{share * 100:g} {outcome.latency_ms(share):.1f}" for share in (0.5, 0.95, 0.99, 0.999)
    )
    codes = " ".join(f"{count} x {code}" for code, count in outcome.codes.items())
    click.echo(f"{what}: {outcome.rate:,.0f}/s, {shares} ms ({codes})")


def show_run(run: Run) -> None:
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
    click.echo(
        f"CPU s: {cpu}\nMB: {memory}\nexact: {run.messages:,} accepted, captured, called back; books whole"
    )


def _delays(found: Mapping[float, float]) -> str:
    return ", ".join(f"P{share * 100:g} {found[share]:,.0f} ms" for share in SHARES)


if __name__ == "__main__":
    bench()
