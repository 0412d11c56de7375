"""Runs ``tollwire-ledger``."""

import sys

from ledger.service import ledger
from shared.runtime.loops import run_service
from shared.runtime.words import refuse_words

ABOUT = "The clockwork: ends what waited too long, keeps the books, seals days and removes what is old."


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    refuse_words("tollwire-ledger", ABOUT, sys.argv[1:])
    sys.exit(run_service("ledger", ledger))


if __name__ == "__main__":
    main()
