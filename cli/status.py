"""`tollwire status`: what runs, and how each part is."""

import os
from collections.abc import Mapping

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cli.home import Home, ProcessState, State
from cli.output import time_text
from cli.screen import own_command
from cli.services import READINESS
from cli.terminal import json_bytes
from embedded.ports import is_listening
from embedded.probe import answers, get

HEALTHY_EXIT, DEGRADED_EXIT, NOT_RUNNING_EXIT = 0, 1, 3  # 3 is what LSB init scripts answer too
UNREADABLE = "unknown"  # the phase of an instance whose state.json was damaged
READY, NO_ANSWER = "ready", "does not answer"
# What each server answers at once: PostgreSQL whether it takes TLS; NATS speaks first.
FIRST_WORDS = {"postgresql": b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "nats": b"", "valkey": b"PING\r\n"}


class _Readiness(msgspec.Struct):
    status: str
    checks: Mapping[str, str]


class Report(msgspec.Struct, kw_only=True):
    """What `tollwire status --json` prints."""

    running: bool
    phase: str
    api_url: str | None
    demo_key: str | None
    data_folder: str
    started_at: str | None
    supervisor_pid: int | None
    versions: Mapping[str, str | None]
    processes: list[ProcessState]
    health: Mapping[str, str]


@click.command()
@click.option("--json", "wants_json", is_flag=True, help="For programs.")
def status(wants_json: bool) -> None:
    """Show what runs. Exit codes: 0 all is well, 1 something is not, 3 nothing runs."""
    home = Home.of(os.environ)
    report = look(home)
    if wants_json:
        click.echo(json_bytes(report))
    else:
        _print(Console(highlight=False), report)
    if not report.running:
        raise SystemExit(NOT_RUNNING_EXIT)
    is_well = report.phase == "running" and all(how == READY for how in report.health.values())
    raise SystemExit(HEALTHY_EXIT if is_well else DEGRADED_EXIT)


def look(home: Home) -> Report:
    """Ask every part how it is."""
    state = home.read_state() or State()
    is_running = home.is_running
    is_unreadable = is_running and home.has_state and home.read_state() is None
    processes = state.processes if is_running else []
    return Report(
        running=is_running,
        phase=UNREADABLE if is_unreadable else state.phase if is_running else "stopped",
        api_url=(state.api_url or None) if is_running else None,
        demo_key=home.demo_key.read_text(encoding="utf-8").strip() if home.demo_key.exists() else None,
        data_folder=str(home.path),
        started_at=state.started_at if is_running else None,
        supervisor_pid=home.supervisor_pid(),
        versions=state.versions,
        processes=processes,
        health={process.name: _health(process) for process in processes},
    )


def _health(process: ProcessState) -> str:
    if process.pid is None or process.state != "running":
        return process.state
    if process.health_port is None:
        return _health_of_server(process)
    answer = get(process.health_port, READINESS, process.health_address)
    if answer is None:
        return NO_ANSWER
    code, body = answer
    return READY if code == 200 else f"not ready: {_missing(body)[:200]}"


def _health_of_server(process: ProcessState) -> str:
    if process.port is None or not is_listening(process.port):
        return "does not listen"
    words = FIRST_WORDS.get(process.name)
    return READY if words is None or answers(process.port, words) else NO_ANSWER


def _missing(body: bytes) -> str:
    """What a process says that it misses, in words."""
    try:
        said = msgspec.json.decode(body, type=_Readiness)
    except msgspec.MsgspecError:
        return body.decode(errors="replace").strip()
    return "; ".join(f"{name}: {how}" for name, how in said.checks.items() if how != "ok") or said.status


def _print(console: Console, report: Report) -> None:
    if not report.running:
        console.print(f"Nothing runs in {report.data_folder}. `{own_command('up')}` starts it.")
        return
    if report.phase == UNREADABLE:
        console.print(
            f"Something runs in {report.data_folder}, and its state.json cannot be read: it is written anew "
            "within seconds. If it is not, end the `tollwire up` of this folder by hand.",
            soft_wrap=True,
        )
        return
    versions = ", ".join(f"{name} {version or '-'}" for name, version in report.versions.items())
    where = f"at {report.api_url}" if report.api_url else "without services"
    since = time_text(report.started_at or None)
    console.print(f"Tollwire is {report.phase} {where}, since {since}", soft_wrap=True)
    console.print(f"Data: {report.data_folder}   Versions: {versions}", soft_wrap=True, style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "pid", "port", "health port", "restarts", "health"):
        table.add_column(column, justify="left" if column in {"process", "health"} else "right")
    for process in report.processes:
        how = report.health[process.name]
        table.add_row(
            process.name,
            str(process.pid or "-"),
            str(process.port or "-"),
            str(process.health_port or "-"),
            str(process.restarts),
            f"[green]{how}" if how == READY else f"[yellow]{how}",
        )
    console.print(table)
