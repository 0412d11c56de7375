"""What is installed is pinned to a version and a hash, in every file that pip reads."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A requirement with its continued lines.
ENTRY = re.compile(r"^(?!#|\s)(.+?)(?<!\\)$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_every_requirement_is_pinned_and_hashed(file: str) -> None:
    entries = ENTRY.findall((ROOT / file).read_text("utf-8"))
    assert entries
    for entry in entries:
        assert "==" in entry.splitlines()[0], entry
        assert "--hash=sha256:" in entry, entry
