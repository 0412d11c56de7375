"""Runs ``tollwire-api``."""

import sys

from api.service import api
from shared.runtime.loops import run_service
from shared.runtime.words import refuse_words

ABOUT = "The API: authenticates, limits, prices and accepts messages; answers reads and operators' work."


def main() -> None:
    """Run until told to stop; exit 0 after a stop that was asked for."""
    refuse_words("tollwire-api", ABOUT, sys.argv[1:])
    sys.exit(run_service("api", api))


if __name__ == "__main__":
    main()
