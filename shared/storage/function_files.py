"""The server-side functions of this program: .sql files beside the code that calls them (docs/adr/0003)."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
# By their names: beside an installed program stand the folders of others.
FOLDERS: Final = ("api", "dlr", "ledger", "shared/storage", "worker")


def function_files() -> list[Path]:
    """Return all of them, in one order. Each makes its functions, grants them, and nothing else."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder / "functions").glob("*.sql"))]


@cache
def functions_digest() -> str:
    """Return the SHA-256 of all of them, in hex: what ``tollwire.installed_functions`` remembers."""
    found = hashlib.sha256()
    for path in function_files():
        text = path.read_bytes()
        found.update(f"{path.relative_to(ROOT).as_posix()} {len(text)}\n".encode())
        found.update(text)
    return found.hexdigest()
