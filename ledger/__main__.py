"""Runs ``tollwire-ledger``."""

import sys

from ledger.service import ledger
from shared.runtime.loops import run_service


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    sys.exit(run_service("ledger", ledger))


if __name__ == "__main__":
    main()
