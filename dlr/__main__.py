"""Runs ``tollwire-dlr``."""

import sys

from dlr.service import dlr
from shared.runtime.loops import run_service
from shared.runtime.words import refuse_words

ABOUT = "Takes carriers' receipts, settles the money and sends signed callbacks."


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    refuse_words("tollwire-dlr", ABOUT, sys.argv[1:])
    sys.exit(run_service("dlr", dlr))


if __name__ == "__main__":
    main()
