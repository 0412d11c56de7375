"""Runs ``tollwire-api``."""

import sys

from api.service import api
from shared.runtime.loops import run_service


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    sys.exit(run_service("api", api))


if __name__ == "__main__":
    main()
