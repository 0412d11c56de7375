"""The requests in the documents are sent, and answered as it is written there."""

from functools import partial
from pathlib import Path

import pytest

from tests.support.doc_examples import Example, Player, examples, keys_of
from tests.support.instance import Instance, eventually

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


def look(player: Player, example: Example) -> list[str]:
    return player.differences(example, player.send(example))
