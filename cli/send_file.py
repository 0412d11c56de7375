"""`tollwire send --csv`: a file through the batch endpoint, once, and on request followed to its end."""

import asyncio
import csv
import io
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cli.api_client import Api
from cli.csv_messages import FILE_BYTES_MAX, CsvFile, read_csv
from cli.csv_rows import CsvFault
from cli.failures import Exit, Failure, Unreachable, of_this_machine, perhaps_done
from cli.follow import OnLook, follow, prove
from cli.home import Home
from cli.journal import Snapshot, snapshot
from cli.output import Output
from cli.proof import FINAL_STATES, Books
from cli.send_batches import cut, run_id
from cli.send_progress import VERSION, Accepted, Header, Progress, Rejected, refuse_other_options
from cli.send_report import Bar, Outcome, books_document, grouped, print_books, print_outcome
from cli.send_run import PATIENCE_SECONDS, Sender
from shared.domain.api_keys import InvalidApiKey, parse_api_key

GO_ON = "The same command goes on where it stopped; nothing is sent twice."
FOLLOW_ON = "What was accepted is sent. The same command follows it again; nothing is sent twice."


@dataclass(frozen=True, slots=True)
class FileSend:
    """What was asked for on the command line. ``options`` go into every message."""

    path: Path
    options: Mapping[str, Any]
    batch_size: int
    run: str
    waits: bool
    timeout_seconds: float
    rejected_path: Path | None
    is_strict: bool

    def all_options(self) -> dict[str, Any]:
        """What has to be the same when the send goes on."""
        return {**self.options, "batch_size": self.batch_size}


async def send_file(api: Api, output: Output, home: Home, asked: FileSend) -> int:
    """Send a file and tell what became of it; return the exit code.

    Raises:
        Failure: the file is not right, or the API stopped taking it.
    """
    file = _read(asked.path)
    _refuse_unwritable(asked.rejected_path, asked.path)
    run = run_id(file.sha256, asked.run)
    with Progress(_progress_path(api, home, run)) as progress:
        await _begin(api, progress, asked, file, run)
        api.outlives_restarts, api.patience_seconds = True, PATIENCE_SECONDS
        earlier = sum(len(done.accepted) for done in progress.done.values())
        await _send(api, output, progress, asked, file)
        outcome = _outcome(progress, asked, file, earlier)
        if not output.as_json:
            print_outcome(output, outcome)
        unwritten = _write_rejected(asked.rejected_path, progress, file)
        ended = None
        try:
            if asked.waits and outcome.accepted:
                ended = await _wait(api, output, progress, asked, outcome)
        finally:  # what was sent is told, however the wait for it ends
            if output.as_json:
                books = {} if ended is None else {"books": books_document(ended)}
                output.document(outcome.document() | books)
    if unwritten is not None:
        raise unwritten
    is_taken = bool(outcome.accepted) and not (asked.is_strict and outcome.rejections)
    return Exit.DONE if is_taken and (ended is None or ended.is_right) else Exit.FAILED


def _read(path: Path) -> CsvFile:
    hint = "Nothing was sent."
    try:
        if path.stat().st_size <= FILE_BYTES_MAX:
            return read_csv(path.read_bytes())
        detail = f"it has more than {FILE_BYTES_MAX // 2**20} MiB; split it"
    except OSError as error:
        detail = error.strerror or type(error).__name__
    except CsvFault as fault:
        detail = str(fault)
    raise Failure(f"{path} cannot be sent.", detail=detail, hint=hint, exit_code=Exit.USAGE)


def _progress_path(api: Api, home: Home, run: str) -> Path:
    """One file for each API, key and run. A rotated key begins another; then the idempotency keys protect."""
    try:
        key_id = parse_api_key(api.target.key).key_id
    except InvalidApiKey as error:
        raise Failure("The API key is not right.", detail=str(error), exit_code=Exit.UNAUTHORIZED) from None
    home.make()
    host = api.target.url.partition("://")[2].replace("/", "_").replace(":", "_")
    return home.path / "sends" / f"{host}-{key_id}-{run}.jsonl"


async def _begin(api: Api, progress: Progress, asked: FileSend, file: CsvFile, run: str) -> None:
    """Remember the run and the account before it; of a run that goes on, check that it is the same."""
    if progress.is_begun:
        refuse_other_options(progress.run, asked.all_options())
        _refuse_unsure(progress)
        return
    before = await snapshot(api)
    progress.begin(
        Header(
            v=VERSION,
            file=str(asked.path),
            sha256=file.sha256,
            run=run,
            options=asked.all_options(),
            started_at_ms=time.time_ns() // 1_000_000,
            currency=before.currency,
            posted_micros=before.posted_micros,
            held_micros=before.held_micros,
            entry_version=before.version,
            is_quiet=before.is_quiet,
        )
    )


def _refuse_unsure(progress: Progress) -> None:
    """Batches that were sent without an answer longer ago than their keys live could be sent twice.

    Raises:
        Failure: there are some.
    """
    unsure = progress.unsure(time.time_ns() // 1_000_000)
    if unsure:
        raise Failure(
            "This send was broken off over 71 hours ago, and part of it may or may not have been accepted.",
            detail=f"{len(unsure)} of its batches lack a whole answer, from {unsure[0]} (of 0, 1, …).",
            hint="`tollwire message list` shows what was accepted. Send the missing rows as another file.",
        )


async def _send(api: Api, output: Output, progress: Progress, asked: FileSend, file: CsvFile) -> None:
    bar = Bar(output.notes, "Sending", len(file.messages), is_quiet=output.as_json)
    for done in progress.done.values():
        bar.advance(done)
    api.tell = bar.tell
    sender = Sender(api, progress, asked.options, asked.batch_size, bar.advance)
    try:
        with bar.shown():
            await sender.send(list(cut(file.messages, asked.batch_size)))
    except (Failure, OSError, asyncio.CancelledError) as error:
        answered = sum(len(done.accepted) + len(done.rejected) for done in progress.done.values())
        how = "" if _is_for_good(error) else f" {GO_ON}"
        stopped = f"Stopped after {answered:,} of {len(file.messages):,} messages.{how}"
        output.note(stopped)
        hint = stopped if output.as_json else ""
        with perhaps_done(hint, is_sure=answered > 0, run=progress.run.run):
            raise


def _is_for_good(error: BaseException) -> bool:
    """Whether the same command would end in the same way, however often it is given."""
    return isinstance(error, Failure) and not isinstance(error, Unreachable) and not error.is_passing


def _outcome(progress: Progress, asked: FileSend, file: CsvFile, earlier: int) -> Outcome:
    accepted, rejected = _rows(progress)
    replays = sum(message.is_replay for message in accepted)
    return Outcome(
        file=str(asked.path),
        run=progress.run.run,
        currency=progress.run.currency,
        rows=len(file.messages),
        earlier=max(earlier, replays),
        accepted=accepted,
        rejections=grouped(rejected, file.messages),
    )


def _rows(progress: Progress) -> tuple[list[Accepted], list[Rejected]]:
    """Every accepted and every rejected row of the run, in the order of the file."""
    batches = [progress.done[index] for index in sorted(progress.done)]
    accepted = chain.from_iterable(done.accepted for done in batches)
    rejected = chain.from_iterable(done.rejected for done in batches)
    return sorted(accepted, key=lambda row: row.place), sorted(rejected, key=lambda row: row.place)


def _refuse_unwritable(path: Path | None, sent: Path) -> None:
    """Look before anything is sent whether the rejected rows have a place, beside the file that is sent.

    Raises:
        Failure: they have none.
    """
    if path is None:
        return
    try:
        if path.exists() and path.samefile(sent):
            hint = "Name another file for the rejected rows. Nothing was sent."
            raise Failure(f"{path} is the file that is sent.", hint=hint, exit_code=Exit.USAGE)
        path.open("a").close()
    except OSError as error:
        raise of_this_machine(error, hint="Nothing was sent.", exit_code=Exit.USAGE) from None


def _write_rejected(path: Path | None, progress: Progress, file: CsvFile) -> Failure | None:
    """Write the rejected rows as a CSV that can be mended and sent; return why that could not be done."""
    if path is None:
        return None
    text = io.StringIO(newline="")
    # Before Python 3.13 only what stands in the end of a line is quoted: a lone CR would end a row.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["to", "text", "line", "code", "detail"])
    for row in _rows(progress)[1]:
        message = file.messages[row.place]
        writer.writerow([message.to, message.text, message.line, row.code, row.detail])
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        error.filename = str(path)
        return of_this_machine(error, hint="What was sent is sent; the same command writes this file.")
    return None


async def _wait(api: Api, output: Output, progress: Progress, asked: FileSend, outcome: Outcome) -> Books:
    """Follow the messages to their end, then prove the books from the journal."""
    ids = [message.id for message in outcome.accepted]
    bar = Bar(output.notes, "Delivering", len(ids), is_quiet=output.as_json)
    api.tell = bar.tell
    with perhaps_done(FOLLOW_ON, is_sure=True, run=outcome.run):
        with bar.shown():
            states = await follow(api, ids, timeout_seconds=asked.timeout_seconds, on_look=_show_states(bar))
        ended = await prove(api, outcome.accepted, states, _before(progress))
    if not output.as_json:
        print_books(output, ended)
    return ended


def _before(progress: Progress) -> Snapshot:
    header = progress.run
    return Snapshot(
        header.currency, header.posted_micros, header.held_micros, header.entry_version, header.is_quiet
    )


def _show_states(bar: Bar) -> OnLook:
    def show(states: dict[str, str]) -> None:
        finals = Counter(state for state in states.values() if state in FINAL_STATES)
        shown = ", ".join(f"{count:,} {state}" for state, count in finals.most_common())
        bar.set(finals.total(), shown)

    return show
