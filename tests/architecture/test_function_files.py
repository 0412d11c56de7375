"""A function file makes functions and grants them, so that it may be run again over what is installed."""

import re
from pathlib import Path

import pytest

from cli.renewal import pieces
from shared.storage.function_files import ROOT, function_files
from tests.support import function_shapes

STATEMENT = re.compile(
    r"^(?:create|alter|drop|insert|update|delete|grant|revoke|comment|do)\b.*", re.MULTILINE
)
MAKES = re.compile(r"create or replace (?:function|aggregate) (\w+\.\w+)\(")


def statements() -> list[str]:
    return [found for path in function_files() for found in STATEMENT.findall(path.read_text("utf-8"))]


def test_every_statement_can_be_run_again() -> None:
    others = [line for line in statements() if not line.startswith("grant execute on function")]
    assert [line for line in others if not MAKES.match(line)] == []


def test_each_function_has_a_name_of_its_own_and_is_found() -> None:
    names = [found[1] for line in statements() if (found := MAKES.match(line))]
    assert sorted(pieces()) == sorted(names)


def test_no_function_file_is_left_out() -> None:
    packages = ("api", "cli", "dlr", "embedded", "ledger", "shared", "simulator", "worker")
    found = {path for package in packages for path in (ROOT / package).rglob("functions/*.sql")}
    assert set(function_files()) == found


def test_what_a_function_takes_and_gives_stays_under_its_name() -> None:
    assert function_shapes.changed() == ""
    assert function_shapes.noted() == function_shapes.shapes(), "python -m tests.support.function_shapes"


def test_another_shape_under_the_name_is_told_and_the_list_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = function_shapes.LIST.read_text("utf-8")
    copy = tmp_path / "shapes.txt"
    copy.write_text(before.replace("p_limit integer", "p_limit bigint"), "utf-8")
    monkeypatch.setattr(function_shapes, "LIST", copy)
    assert "tollwire.look_due_v1" in function_shapes.changed()
    with pytest.raises(SystemExit, match="a new name"):
        function_shapes.main()
    copy.write_text("", "utf-8")
    function_shapes.main()
    assert copy.read_text("utf-8") == before
