"""The commands in docs/cli.md are run, in their order, and each does what it is there for."""

import re
import shlex
from pathlib import Path

import pytest

from cli.__main__ import COMMANDS
from tests.support.instance import Instance

DOC = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
# The same texts as in the file of 5,000, so few that the test is short.
FILE = "to,text\n+4915112345678,Hello\n+33612345678,Bonjour\n"
PRICES = "prefix,price\n43,0.0810\n41,0.0560\n"


def commands() -> list[list[str]]:
    """The words of every command of the document."""
    blocks = BLOCK.findall(DOC.read_text(encoding="utf-8"))
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def sent(running: Instance) -> str:
    """The id of a message that is there."""
    (running.home.parent / "messages.csv").write_text(FILE)
    (running.home.parent / "prices.csv").write_text(PRICES)
    shown = running.run("send", "+4915112345678", "Hello")
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", shown.stdout)
    assert found, shown
    return found[0]


def test_every_command_of_the_document_ends_well(running: Instance, sent: str) -> None:
    failed = {}
    for words in commands():
        assert words[0] == "tollwire"
        done = running.run(*(sent if word == "ID" else word for word in words[1:]))
        if done.returncode:
            failed[shlex.join(words)] = done.stdout + done.stderr
    assert failed == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_place_in_the_document(name: str) -> None:
    assert f"tollwire {name}" in DOC.read_text(encoding="utf-8")
