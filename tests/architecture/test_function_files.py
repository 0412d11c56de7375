"""A function file makes functions and grants them, so that it may be run again over what is installed."""

import re

from cli.renewal import pieces
from shared.storage.function_files import ROOT, function_files

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
