"""Runs ``tollwire-worker``."""

import sys

from shared.runtime.loops import run_service
from shared.runtime.words import refuse_words
from worker.service import worker

ABOUT = (
    "Takes accepted messages from JetStream, claims them, submits them to carriers and records the answers."
)


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    refuse_words("tollwire-worker", ABOUT, sys.argv[1:])
    sys.exit(run_service("worker", worker))


if __name__ == "__main__":
    main()
