"""The commands of docs/recovery.md for a home of `tollwire up`, as they are typed."""

import re
from collections.abc import Callable
from pathlib import Path

DOC = Path(__file__).resolve().parents[2] / "docs" / "recovery.md"
COPY, MOMENT = "/backup/tollwire", "2026-11-21T10:00:00Z"


def restore_commands(is_typed: Callable[[str], bool], *, copy: Path, moment: str) -> str:
    """Return the lines that are typed, with the copy and the moment in place of the examples."""
    chapter = DOC.read_text(encoding="utf-8").partition("## An instance of `tollwire up`")[2]
    found = re.search(r"```sh\n(.*?)```", chapter, re.DOTALL)
    if found is None:
        raise ValueError(f"{DOC} has no commands")
    typed = "".join(filter(is_typed, found[1].splitlines(keepends=True)))
    return typed.replace(MOMENT, moment).replace(COPY, str(copy))


def is_of_nats(line: str) -> bool:
    """Whether the line is about the facts of before."""
    return "/nats" in line


def is_of_before(line: str) -> bool:
    """Whether the line needs the home of before, which may be lost."""
    return "$TOLLWIRE_HOME.before" in line or line.startswith("rm ")
