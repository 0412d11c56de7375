"""Runs ``tollwire-dlr``."""

import sys

from dlr.service import dlr
from shared.runtime.loops import run_service


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    sys.exit(run_service("dlr", dlr))


if __name__ == "__main__":
    main()
