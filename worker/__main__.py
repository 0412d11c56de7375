"""Runs ``tollwire-worker``."""

import sys

from shared.runtime.loops import run_service
from worker.service import worker


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    sys.exit(run_service("worker", worker))


if __name__ == "__main__":
    main()
