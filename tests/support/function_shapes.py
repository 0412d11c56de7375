"""What each server function takes and gives, read from its file: ``python -m tests.support.function_shapes``.

It writes the list anew, and leaves it where something else stands under a name: a process of the version
before, which runs during an upgrade, calls the function by that name as it was.
"""

import re
import sys
from pathlib import Path
from typing import Final

from cli.renewal import pieces

LIST: Final = Path(__file__).parents[1] / "architecture" / "function_shapes.txt"
HEADING: Final = (
    "# What each server function takes and gives: python -m tests.support.function_shapes writes it anew.\n"
    "# A line here stays as it is: what takes or gives something else has a new name (docs/adr/0003).\n"
)
_SHAPE: Final = re.compile(
    r"create or replace (?:function (.+?) language|aggregate (.+?) \(sfunc = .*?stype = (\w+))", re.DOTALL
)


def shape_of(text: str) -> str:
    """Return name, arguments and result of the function that ``text`` makes, in one line."""
    found = _SHAPE.match(" ".join(text.split()))
    if found is None:
        raise ValueError(f"no function begins here: {text[:80]}")
    shape = found[1] or f"{found[2]} returns {found[3]}"
    return shape.replace("( ", "(").replace(" )", ")")


def shapes() -> dict[str, str]:
    """Return the shape of each function of the files, by its name."""
    return {name: shape_of(text) for name, text in sorted(pieces().items())}


def noted() -> dict[str, str]:
    """Return the shapes of the list, by name."""
    lines = [line for line in LIST.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {line.partition("(")[0]: line for line in lines}


def changed() -> str:
    """What to say of the functions that stand in the list in another shape; empty: none does."""
    before, now = noted(), shapes()
    names = [name for name in now if before.get(name, now[name]) != now[name]]
    if not names:
        return ""
    return (
        f"{', '.join(names)}: processes of the version before call it as it was, so what takes or gives "
        "something else gets a new name (docs/adr/0003). Where no release has it yet, take its line out of "
        f"{LIST.name}."
    )


def main() -> None:
    """Write the list."""
    if problem := changed():
        sys.exit(problem)
    LIST.write_text(HEADING + "".join(f"{shape}\n" for shape in shapes().values()), "utf-8")


if __name__ == "__main__":
    main()
