"""The list of `tollwire recover`: a CSV with a line for each message, and what was done with it."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO
from uuid import UUID

from cli.failures import Exit, Failure
from ledger.recover import Listener
from ledger.recover_facts import Said

COLUMNS: Final = ("message_id", "done", "told", "told_at", "client_id", "amount_micros", "currency")
EACH_LINE: Final = 1


class RecoverList:
    """Writes the lines: each at once, so that the list of a run that is cut off has what was done.

    Args:
        file: open to be read and added to; None: nobody wants a list.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        # What is gone is told by facts alone: a run that goes on finds it again.
        self._is_new, self._gone = (False, set[str]()) if file is None else _look_at(file)

    def listener(self, told: Mapping[UUID, Said]) -> Listener:
        """What hears of each message, with what had been told of it."""
        if self._file is None:
            return lambda *_: None
        writer = csv.writer(self._file)
        if self._is_new:
            writer.writerow(COLUMNS)

        def write(message_id: UUID, done: str, status: str) -> None:
            if done == "gone" and str(message_id) in self._gone:
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


def _look_at(file: TextIO) -> tuple[bool, set[str]]:
    """Whether it is empty, and which messages it lists as gone."""
    file.seek(0)
    rows = csv.reader(file)
    first = next(rows, None)
    if first is not None and tuple(first) != COLUMNS:
        raise ValueError(first)
    return first is None, {row[0] for row in rows if row[1:2] == ["gone"]}
