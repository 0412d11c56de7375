"""`python -m simulator`, also installed as `tollwire-simulator`."""

import sys

from shared.runtime.loops import run_service
from simulator.service import simulator


def main() -> None:
    """Run the simulated carrier until it is told to stop."""
    sys.exit(run_service("simulator", simulator))


if __name__ == "__main__":
    main()
