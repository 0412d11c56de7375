"""The list of `tollwire recover`: a CSV with a line for each message, and what was done with it."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final
from uuid import UUID

from cli.failures import Exit, Failure, of_this_machine
from ledger.recover import Listener
from ledger.recover_facts import Said

COLUMNS: Final = ("message_id", "done", "told", "told_at", "client_id", "amount_micros", "currency")
LINE_END: Final = "\r\n"
TITLES: Final = ",".join(COLUMNS) + LINE_END


@dataclass
class _Found:
    """What is in the file.

    Attributes:
        missing: what has to be written before a line: the titles, or the end of what was torn off.
        cut_bytes: so long is a last line, torn off, of a message that is gone: it goes, since the message is
            found again, and nobody is to charge for an amount that is torn.
        has_lines: there is more than the titles.
        gone: what it lists as gone. Facts alone tell of it: a run that goes on finds it again.
    """

    missing: str = ""
    cut_bytes: int = 0
    has_lines: bool = False
    gone: set[str] = field(default_factory=set)


class _Lines:
    """Takes lines, each at once, so that the list of a run that is cut off has what was done."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self.path = path

    def cut(self, length: int) -> None:
        """Cut so many bytes off its end."""
        if length:
            self._file.truncate(self.path.stat().st_size - length)

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            Failure: the file takes no more. It names the file; any other OSError is the database's.
        """
        left = line.encode()
        try:
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            named = OSError(error.errno, error.strerror, str(self.path))
            hint = "When there is room, start it again by the same command: it goes on."
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

    def check(self, *, is_resumed: bool) -> None:
        """Look whether its lines are of this recovery.

        Who charges for what a list names as gone must not find the messages of two recoveries in it.

        Raises:
            Failure: there are lines, and the recovery begins only now.
        """
        if self._lines is not None and self._found.has_lines and not is_resumed:
            raise _refused(f"{self._lines.path} is the list of another recovery.")

    def listener(self, told: Mapping[UUID, Said]) -> Listener:
        """What hears of each message, with what had been told of it.

        Raises:
            Failure: the file takes no more; so does the listener.
        """
        if self._lines is None:
            return lambda *_: None
        self._lines.cut(self._found.cut_bytes)
        self._lines.write(self._found.missing)
        writer = csv.writer(self._lines, lineterminator=LINE_END)

        def write(message_id: UUID, done: str, status: str) -> None:
            if done == "gone" and str(message_id) in self._found.gone:
                return
            said = told.get(message_id)
            more = (said.at.isoformat(), said.client_id, said.amount_micros, said.currency) if said else ()
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


def _refused(title: str) -> Failure:
    return Failure(title, hint="Nothing was done. Name another.", exit_code=Exit.USAGE)


def _look_at(path: Path) -> _Found:
    """Look at what is there.

    Raises:
        ValueError, csv.Error: it is no list.
    """
    found = _Found()
    with path.open(encoding="utf-8", newline="") as file:
        first = file.readline(len(TITLES) + 1)
        if TITLES.startswith(first):
            found.missing = TITLES[len(first) :]
        elif first.rstrip() != TITLES.rstrip():
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
