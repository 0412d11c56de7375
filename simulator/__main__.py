"""`python -m simulator`, also installed as `tollwire-simulator`."""

import sys

from shared.runtime.loops import run_service
from shared.runtime.words import refuse_words
from simulator.service import simulator

ABOUT = "A simulated carrier over HTTP, with scripted outcomes and receipts."


def main() -> None:
    """Run the simulated carrier until it is told to stop."""
    refuse_words("tollwire-simulator", ABOUT, sys.argv[1:])
    sys.exit(run_service("simulator", simulator))


if __name__ == "__main__":
    main()
