"""`python -m tests.chaos --plan kills --seed 7 --seconds 60`: one run."""

import argparse
import sys

from tests.chaos.plan import PLANS
from tests.chaos.report import lines_of
from tests.chaos.run import RunSettings, carry_out


def main() -> None:
    """Run, print, exit with 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--plan", choices=sorted(PLANS), default="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    told = parser.parse_args()
    settings = RunSettings(told.seed, told.plan, told.seconds, told.copies, told.rate)
    result = carry_out(settings, told.keep)
    print("\n".join(lines_of(result)))
    sys.exit(0 if result.is_right else 1)


if __name__ == "__main__":
    main()
