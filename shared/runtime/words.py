"""What a service answers to words on its command line: it takes none, and says what it does take."""

import sys
from collections.abc import Sequence
from typing import Final

EXIT_WRONG_USE: Final = 2
HELP: Final = """\
Usage: {program}

{about}

It takes no arguments: environment variables beginning with TOLLWIRE_ set it. .env.example lists each with its
meaning, its default and who reads it; docs/operations.md says what an installation needs. SIGTERM stops it.
"""


def refuse_words(program: str, about: str, words: Sequence[str]) -> None:
    """Return when there are no words.

    Raises:
        SystemExit: 0 behind a help that was asked for, else 2 with the help on stderr.
    """
    if not words:
        return
    is_asked = words[0] in {"--help", "-h"}
    print(HELP.format(program=program, about=about), end="", file=sys.stdout if is_asked else sys.stderr)
    raise SystemExit(0 if is_asked else EXIT_WRONG_USE)
