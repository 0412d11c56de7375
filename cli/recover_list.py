"""The list of `tollwire recover`: a CSV with a line for each message, and what was done with it."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO
from uuid import UUID

from cli.failures import Exit, Failure
from ledger.recover import Listener
from ledger.recover_facts import Said

COLUMNS: Final = ("message_id", "done", "told", "told_at", "client_id", "amount_micros", "currency")
EACH_LINE: Final = 1


@dataclass
class _Found:
    """What is in the file: nothing yet, the titles alone, or lines too.

    Attributes:
        gone: what it lists as gone. Facts alone tell of it: a run that goes on finds it again.
    """

    is_new: bool = False
    has_lines: bool = False
    gone: set[str] = field(default_factory=set)


class RecoverList:
    """Writes the lines: each at once, so that the list of a run that is cut off has what was done.

    Args:
        file: open to be read and added to; None: nobody wants a list.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._found = _Found() if file is None else _look_at(file)

    def check(self, *, is_resumed: bool) -> None:
        """Look whether its lines are of this recovery.

        Who charges for what a list names as gone must not find the messages of two recoveries in it.

        Raises:
            Failure: there are lines, and the recovery begins only now.
        """
        if self._found.has_lines and not is_resumed and self._file is not None:
            raise Failure(
                f"{self._file.name} is the list of another recovery.",
                hint="Nothing was done. Name another.",
                exit_code=Exit.USAGE,
            )

    def listener(self, told: Mapping[UUID, Said]) -> Listener:
        """What hears of each message, with what had been told of it."""
        if self._file is None:
            return lambda *_: None
        writer = csv.writer(self._file)
        if self._found.is_new:
            writer.writerow(COLUMNS)

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
        Failure: the file is something else.
        OSError: it cannot be written.
    """
    if path is None:
        yield RecoverList(None)
        return
    with path.open("a+", encoding="utf-8", newline="", buffering=EACH_LINE) as file:
        try:
            found = RecoverList(file)
        except ValueError:
            raise Failure(
                f"{path} is no list of a recovery.",
                hint="Nothing was done. Name another.",
                exit_code=Exit.USAGE,
            ) from None
        yield found


def _look_at(file: TextIO) -> _Found:
    """Look at what is there.

    Raises:
        ValueError: it is no list.
    """
    file.seek(0)
    rows = csv.reader(file)
    first = next(rows, None)
    if first is None:
        return _Found(is_new=True)
    if tuple(first) != COLUMNS:
        raise ValueError(first)
    found = _Found()
    for row in rows:
        found.has_lines = True
        if row[1:2] == ["gone"]:
            found.gone.add(row[0])
    return found
