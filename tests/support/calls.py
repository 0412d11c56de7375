"""How much work something is, in what does not depend on the machine."""

import gc
import sys
from collections.abc import Callable


def calls_of(act: Callable[[], object]) -> int:
    """Return how many calls begin and end while this is done, also those of generators and of C."""
    count = 0

    def note(_frame: object, _event: str, _of: object) -> None:
        nonlocal count
        count += 1

    gc.disable()  # it calls who wants to know of it, whenever it likes
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count
