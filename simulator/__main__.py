"""`python -m simulator`, also installed as `tollwire-simulator`."""

import os
import sys

from shared.runtime.loops import run_service
from shared.runtime.settings import load
from simulator.service import simulator
from simulator.settings import Settings


def main() -> None:
    """Run the simulated carrier until it is told to stop."""
    sys.exit(run_service("simulator", lambda: simulator(load(Settings, os.environ))))


if __name__ == "__main__":
    main()
