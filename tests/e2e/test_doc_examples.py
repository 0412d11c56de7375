"""What the documents show is done: requests are answered as it is written there, and commands end well."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from tests.support.doc_examples import Example, Player, examples, keys_of
from tests.support.instance import Instance, eventually

# The instance of this test is up already, and stays so; tests/e2e/test_up.py runs these.
OF_THE_INSTANCE = {"up", "down"}
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["api.md"])
def test_every_request_is_answered_as_the_document_says(running: Instance, name: str) -> None:
    player = Player(running.status()["api_url"], keys_of(running))
    wrong = {}
    for example in examples((DOCS / name).read_text(encoding="utf-8")):
        found = player.differences(example, player.send(example))
        # What happens to a message takes its time; what only looks is sent until it has happened.
        if found and example.method == "GET":
            found = eventually(partial(look, player, example), lambda found: not found)
        if found:
            wrong[str(example)] = found
    assert wrong == {}, f"read it, then write it anew: python -m tests.support.doc_writer docs/{name}"


def test_every_command_for_operators_does_what_it_should(running: Instance) -> None:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (DOCS / "operations.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    ended = {shlex.join(words): running.run(*words) for words in commands if words[0] not in OF_THE_INSTANCE}
    assert len(ended) > 5
    assert {words: done.stderr for words, done in ended.items() if done.returncode != 0} == {}


def look(player: Player, example: Example) -> list[str]:
    return player.differences(example, player.send(example))
