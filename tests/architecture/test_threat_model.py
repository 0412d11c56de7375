"""Each row of the threat model names tests, and they are there."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (?!risk |threat |-)(.+?) \| (.+) \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(test_\w+)::(test_\w+)`")
# The ten of OWASP, and at least as many of our own.
ROWS_MIN = 20


def test_every_threat_has_tests_and_each_of_them_is_there() -> None:
    rows = ROW.findall((ROOT / "docs" / "threat-model.md").read_text("utf-8"))
    # Two files may have one name, in two folders.
    texts: defaultdict[str, str] = defaultdict(str)
    for path in (ROOT / "tests").rglob("test_*.py"):
        texts[path.stem] += path.read_text("utf-8")
    assert len(rows) >= ROWS_MIN
    missing = []
    for threat, _, held_by in rows:
        named = NAMED.findall(held_by)
        assert named, f"nothing holds against: {threat}"
        for file, test in named:
            if not re.search(rf"^(async )?def {test}\(", texts[file], re.MULTILINE):
                missing.append(f"{threat}: {file}::{test}")
    assert missing == []


def test_the_ten_of_owasp_are_all_there() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    assert [number for number in range(1, 11) if f"| API{number} " not in text] == []
