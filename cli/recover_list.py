"""The list of `tollwire recover`: a CSV with a line for each message, and what was done with it.

A last title, without a column, says of which recovery it is: `recovery begun 2026-11-21T10:00:00+00:00`.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Final
from uuid import UUID

from cli.failures import Exit, Failure, of_this_machine
from ledger.recover import Listener
from ledger.recover_facts import Said
from shared.domain.money import format_micros

# Ids and micros for machines; a name and a decimal amount for `tollwire credit adjust`.
COLUMNS: Final = (
    *("message_id", "done", "told", "told_at"),
    *("client_id", "amount_micros", "currency", "client", "amount"),
)
LINE_END: Final = "\r\n"
TITLES_START: Final = ",".join(COLUMNS) + ",recovery begun "
# The moment after it is of 32 characters.
TITLES_MAX: Final = len(TITLES_START) + 40


@dataclass
class _Found:
    """What is in the file.

    Attributes:
        titles: its first line, torn off perhaps.
        size_bytes: how long it is.
        missing: what has to be written before a line: the end of what was torn off.
        cut_bytes: so long is a last line, torn off, of a message that is gone: it goes, since the message is
            found again, and nobody is to charge for an amount that is torn.
        has_lines: there is more than the titles.
        gone: what it lists as gone. Facts alone tell of it: a run that goes on finds it again.
    """

    titles: str = ""
    size_bytes: int = 0
    missing: str = ""
    cut_bytes: int = 0
    has_lines: bool = False
    gone: set[str] = field(default_factory=set)


class _Lines:
    """Takes lines, each at once, so that the list of a run that is cut off has what was done."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self.path = path

    def cut(self, size_bytes: int) -> None:
        """Cut it to a size.

        Raises:
            Failure: as ``write``.
        """
        with self._named():
            self._file.truncate(size_bytes)

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            Failure: the file takes no more. It names the file; any other OSError is the database's.
        """
        left = line.encode()
        with self._named():
            while left:
                left = left[os.write(self._file.fileno(), left) :]

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            named = OSError(error.errno, error.strerror, str(self.path))
            hint = "When it takes more again, start the same command again: it goes on."
            raise of_this_machine(named, hint=hint) from error


class RecoverList:
    """Writes the lines.

    Args:
        lines: where they go; None: nobody wants a list.
        found: what is there already.
    """

    def __init__(self, lines: _Lines | None, found: _Found) -> None:
        self._lines = lines
        self._found = found

    def check(self, began: datetime) -> None:
        """Look whether its lines are of the recovery that began then.

        Who charges for what a list names as gone must not find the messages of two recoveries in it.

        Raises:
            Failure: there are lines of another one.
        """
        is_own = self._found.titles.rstrip() == _titles(began).rstrip()
        if self._lines is not None and self._found.has_lines and not is_own:
            raise _refused(f"{self._lines.path} is the list of another recovery.")

    def listener(self, told: Mapping[UUID, Said], clients: Mapping[int, str], began: datetime) -> Listener:
        """What hears of each message, with what had been told of it; ``clients`` are names by id.

        Raises:
            Failure: the file takes no more; so does the listener.
        """
        if self._lines is None:
            return lambda *_: None
        if self._found.has_lines:
            if self._found.cut_bytes:
                self._lines.cut(self._found.size_bytes - self._found.cut_bytes)
            self._lines.write(self._found.missing)
        else:
            self._lines.cut(0)
            self._lines.write(_titles(began))
        writer = csv.writer(self._lines, lineterminator=LINE_END)

        def write(message_id: UUID, done: str, status: str) -> None:
            if done == "gone" and str(message_id) in self._found.gone:
                return
            said = told.get(message_id)
            more = _facts(said, clients) if said else ()
            writer.writerow((message_id, done, status, *more))

        return write


@contextmanager
def opened(path: Path | None) -> Iterator[RecoverList]:
    """Open the list. One that is there is that of a run that was cut off: it is added to.

    Raises:
        Failure: it is no file, or the file is something else.
        OSError: it cannot be written.
    """
    if path is None:
        yield RecoverList(None, _Found())
        return
    # A recovery that goes on reads what is there: a pipe or a terminal has nothing of it.
    if str(path) == "-" or (path.exists() and not path.is_file()):
        raise _refused(f"{path} is no file.")
    with path.open("ab", buffering=0) as file:
        try:
            found = _look_at(path)
        except (ValueError, csv.Error):
            raise _refused(f"{path} is no list of a recovery.") from None
        yield RecoverList(_Lines(file, path), found)


def _facts(said: Said, clients: Mapping[int, str]) -> tuple[object, ...]:
    """What was told; a client that was made after the restored moment has no name."""
    amount = format_micros(said.amount_micros)
    name = clients.get(said.client_id, "")
    return said.at.isoformat(), said.client_id, said.amount_micros, said.currency, name, amount


def _titles(began: datetime) -> str:
    return TITLES_START + began.isoformat() + LINE_END


def _refused(title: str) -> Failure:
    return Failure(title, hint="Nothing was done. Name another.", exit_code=Exit.USAGE)


def _look_at(path: Path) -> _Found:
    """Look at what is there.

    Raises:
        ValueError, csv.Error: it is no list.
    """
    found = _Found(size_bytes=path.stat().st_size)
    with path.open(encoding="utf-8", newline="") as file:
        found.titles = first = file.readline(TITLES_MAX)
        if not (first.startswith(TITLES_START) or TITLES_START.startswith(first)):
            raise ValueError(first)
        for row in csv.reader(_whole(file, found)):
            if row[1:2] == ["gone"]:
                found.gone.add(row[0])
    return found


def _whole(lines: Iterable[str], found: _Found) -> Iterator[str]:
    """The lines that end as they must; the last of a killed run or of a full disk may be torn off."""
    for line in lines:
        found.has_lines = True
        if line.endswith("\n"):
            yield line
        elif line.split(",")[1:2] == ["gone"]:
            found.cut_bytes = len(line.encode())
        else:
            found.missing = LINE_END
