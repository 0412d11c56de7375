"""How a command ends when it did not do what was asked: an exit code, and a few lines that say why.

0 done · 1 refused or failed · 2 used wrongly · 3 nothing answers · 4 not allowed · 130 interrupted.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from api.problems import FieldError, Problem
from cli.terminal import json_bytes, printable


class Exit(IntEnum):
    """Exit codes of the commands that talk to the API (docs/cli.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORIZED = 4
    INTERRUPTED = 130


# The problem's code → what the shell hears; every other problem is FAILED.
NOT_ALLOWED = frozenset({"unauthorized", "forbidden", "address_not_allowed"})


# Exit codes that say nothing of whether it was done.
SILENT_OF_IT = frozenset({Exit.UNREACHABLE, Exit.INTERRUPTED})


class Failure(Exception):  # noqa: N818 - a failure of a command, told to people
    """A command that ended otherwise than asked. The lines below the title are for people.

    It goes to stderr, so that stdout holds results and nothing else.
    """

    def __init__(
        self, title: str, *, detail: str = "", hint: str = "", exit_code: Exit = Exit.FAILED
    ) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
        # Whether to try again makes sense, whether what was asked may have been done all the same, and when.
        self.is_passing = False
        self.may_be_done = False
        self.retry_after_seconds: float | None = None
        # What a program needs to go on, beside the title and the like.
        self.members: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """What a program gets to read."""
        return {
            "title": self.title,
            "detail": self.detail,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
            **self.members,
        }

    def fields(self) -> Sequence[FieldError]:
        """The bad fields of a request, if it was one."""
        return ()

    def show(self, *, as_json: bool) -> None:
        """Print to stderr: lines for people, or one JSON object for programs."""
        if as_json:
            click.echo(json_bytes(self.document()), err=True)
            return
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        # Also what a server said that is none of ours.
        console.print(Text.assemble((printable(self.title), "bold red")))
        lines = dict.fromkeys((*self.detail.splitlines(), *map(_field_line, self.fields())))
        for line in filter(None, lines):
            console.print(Text(f"  {printable(line)}"))
        for line in self.hint.splitlines():
            console.print(Text(f"  {printable(line)}", style="dim"))


class Refused(Failure):
    """The API answered with a problem (RFC 9457); ``key_hint``: where the key came from."""

    def __init__(self, problem: Problem, *, what: str = "", key_hint: str = "") -> None:
        is_of_key = problem.code in NOT_ALLOWED
        title = f"{what}: {problem.title}" if what else problem.title
        code = f"{problem.code} ({problem.status})"
        super().__init__(
            title,
            detail=problem.detail,
            hint=f"{key_hint}\n{code}" if is_of_key and key_hint else code,
            exit_code=Exit.UNAUTHORIZED if is_of_key else Exit.FAILED,
        )
        self.problem = problem

    def document(self) -> dict[str, Any]:
        """The problem as the API gave it, and the exit code."""
        return {**msgspec.to_builtins(self.problem), "exit_code": int(self.exit_code), **self.members}

    def fields(self) -> Sequence[FieldError]:
        """The bad fields that the problem names, but for one of which its detail says the same."""
        errors = () if self.problem.errors is msgspec.UNSET else self.problem.errors
        return [error for error in errors if error.detail != self.problem.detail]


class Unreachable(Failure):
    """Nothing answers at the API's address."""

    def __init__(self, title: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(title, detail=detail, hint=hint, exit_code=Exit.UNREACHABLE)


class Interrupted(Failure):
    """Ctrl-C."""

    def __init__(self, *, hint: str = "") -> None:
        super().__init__("Interrupted.", hint=hint, exit_code=Exit.INTERRUPTED)


@contextmanager
def perhaps_done(hint: str, *, is_sure: bool = False, **members: str) -> Iterator[None]:
    """Say how to go on where what is asked within fails, or is broken off, and may have been done.

    Args:
        hint: ahead of the failure's own.
        is_sure: it was done, whatever fails within. No exit code denies that it was, or may have been.
        members: for programs, beside the title and the like.

    Raises:
        Interrupted: in place of what Ctrl-C cancels the command with, which can say nothing.
    """
    try:
        yield
    except Failure as failure:
        if is_sure or failure.may_be_done:
            failure.hint = f"{hint}\n{failure.hint}".strip()
            failure.members = {"hint": failure.hint, **members}
            if failure.exit_code not in SILENT_OF_IT:
                failure.exit_code = Exit.FAILED  # others say that nothing was done
        raise
    except asyncio.CancelledError:
        interrupted = Interrupted(hint=hint)
        interrupted.members = dict(members)
        raise interrupted from None


def of_this_machine(error: OSError, *, hint: str = "", exit_code: Exit = Exit.FAILED) -> Failure:
    """A file, or the output, that takes no more: a full disk, most often."""
    place = "the output" if error.filename is None else str(error.filename)
    detail = f"{place}: {error.strerror or error}"
    return Failure("This machine did not let it go on.", detail=detail, hint=hint, exit_code=exit_code)


def _field_line(error: FieldError) -> str:
    return f"{error.field}: {error.detail}"
