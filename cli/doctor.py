"""`tollwire doctor`: looks at everything that Tollwire stands on, and says what to do."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Final

import click
import structlog
from rich.text import Text

from cli.doctor_findings import Finding, Level, Report, fault, report_of
from cli.doctor_kernel import check_writeback
from cli.doctor_machine import check_disk, check_files, check_keyring, check_processes, check_python
from cli.doctor_nats import check_nats
from cli.doctor_place import SERVICES, Place, find_place
from cli.doctor_postgres import check_postgres
from cli.doctor_settings import check_settings
from cli.doctor_tracing import check_tracing
from cli.doctor_valkey import check_valkey
from cli.failures import Exit
from cli.output import Output

Check = Callable[[Place], Awaitable[list[Finding]]]

# In the order in which they are read: what is wrong first explains what is wrong after it.
CHECKS: Final[Sequence[Check]] = (
    check_settings,
    check_python,
    check_files,
    check_disk,
    check_writeback,
    check_keyring,
    check_postgres,
    check_nats,
    check_valkey,
    check_tracing,
    check_processes,
)
# Every look has a limit of its own; this ends one that hangs all the same.
CHECK_SECONDS: Final = 20.0
STYLES: Final = {Level.OK: "green", Level.NOTE: "blue", Level.WARNING: "yellow", Level.FAULT: "bold red"}
MARKS: Final = {Level.OK: "✓", Level.NOTE: "·", Level.WARNING: "!", Level.FAULT: "✗"}
# The longest name of a check and a little air.
CHECK_WIDTH: Final = 14


@click.command(
    epilog="""\b
Examples:
  tollwire doctor
  tollwire doctor --json | jq '.findings[] | select(.level == "fault")'
  kubectl exec deploy/tollwire-api -- tollwire doctor
"""
)
@click.option(
    "--service",
    "services",
    multiple=True,
    type=click.Choice(SERVICES),
    help="Whose settings to look at; may be repeated. Else: whose role the DSN names, or all.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document.")
def doctor(services: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Look for what is wrong here, and say what to do about it.

    It looks at settings, servers, schema, streams, clock, disk and keys, and changes nothing. Exit codes:
    0 nothing is wrong (warnings apart), 1 something is, 2 used wrongly.
    """
    # What it finds is its word; log lines of libraries would stand among it.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    report = asyncio.run(examine(find_place(os.environ, services)))
    output = Output(as_json=as_json)
    if as_json:
        output.document(report)
    else:
        _show(output, report)
    sys.exit(Exit.FAILED if report.faults or (strict and report.warnings) else Exit.DONE)


async def examine(place: Place) -> Report:
    """Run every check, side by side; each has its say, whatever the others meet."""
    found = await asyncio.gather(*(_run(check, place) for check in CHECKS))
    return report_of(version("tollwire"), place.title, [finding for part in found for finding in part])


async def _run(check: Check, place: Place) -> list[Finding]:
    name = check.__name__.removeprefix("check_")
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check(place)
    except TimeoutError:
        return [fault(name, f"no word within {CHECK_SECONDS:.0f} s", "Look at that server and its log.")]
    except Exception as error:  # noqa: BLE001 - the other checks' findings are wanted all the more
        text = f"the look at it failed: {type(error).__name__}: {error}"
        return [fault(name, text, "If nothing else explains it, this is a fault of ours: please report it.")]


def _show(output: Output, report: Report) -> None:
    output.gap()
    output.line(f"Tollwire {report.version}: {report.place}", "bold")
    output.gap()
    previous = ""
    for finding in report.findings:
        name = "" if finding.check == previous else finding.check
        previous = finding.check
        style = STYLES[finding.level]
        row = Text.assemble(
            "  ", (MARKS[finding.level], style), f" {name:<{CHECK_WIDTH}}",
            (finding.text, style if finding.level in {Level.FAULT, Level.WARNING} else ""),
        )  # fmt: skip
        output.console.print(row, soft_wrap=True)
        if finding.what_to_do:
            indent = " " * (CHECK_WIDTH + len("  ✓ "))
            output.console.print(Text(f"{indent}→ {finding.what_to_do}", style="dim"), soft_wrap=True)
    output.gap()
    output.line(_summary(report), "bold red" if report.faults else "yellow" if report.warnings else "green")
    output.gap()


def _summary(report: Report) -> str:
    if not report.faults and not report.warnings:
        return "Nothing is wrong."
    return ", ".join(
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((report.faults, "fault"), (report.warnings, "warning"))
        if count
    )
