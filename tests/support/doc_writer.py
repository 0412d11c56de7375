"""Writes the answers in a document anew: ``python -m tests.support.doc_writer docs/api.md``.

It starts a fresh instance, plays the document's examples against it and puts in what came back. Read the
difference before you commit it: what changed there has changed for every client.
"""

import http.client
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from embedded.ports import free_port
from tests.support.doc_examples import Answer, Example, Player, differences, examples, keys_of
from tests.support.instance import Instance

COLUMNS = 100
# What a message does next, it does within this time; an answer that stays so long is the one to show.
SETTLED_SECONDS = 2.0


def write(path: Path) -> None:
    """Play the document and write it anew."""
    folder = Path(tempfile.mkdtemp(prefix="tollwire-docs-"))
    folder.chmod(0o755)
    instance = Instance(folder / "home", free_port())
    try:
        instance.up()
        player = Player(instance.status()["api_url"], keys_of(instance))
        path.write_text(rewritten(path.read_text(encoding="utf-8"), lambda one: settled(player, one)))
    finally:
        instance.down("--clean")
        shutil.rmtree(folder)


def settled(player: Player, example: Example) -> Answer:
    """Send the request; what is only looked at is looked at until it changes no more."""
    answer = player.send(example)
    while example.method == "GET":
        time.sleep(SETTLED_SECONDS)
        again = player.send(example)
        is_settled = not [*differences("", answer[2], again[2], {})]
        answer = again
        if is_settled:
            break
    player.learn(example, answer[2])
    return answer


def rewritten(document: str, play: Callable[[Example], Answer]) -> str:
    """The document with the answers of ``play``; the ids that it wrote before are replaced everywhere."""
    parts, end, renamed = [], 0, {}
    for example in examples(document):
        status, headers, answer = play(example)
        shown = [f"HTTP/1.1 {status} {http.client.responses[status]}"]
        shown += [f"{name}: {headers.get(name, written)}" for name, written in example.answer_headers.items()]
        parts += [document[end : example.span[0]], "\n".join([*shown, "", pretty(answer), ""])]
        end = example.span[1]
        if "id" in example.answer and "id" in answer:
            renamed[example.answer["id"]] = answer["id"]
    text = "".join([*parts, document[end:]])
    for old, new in renamed.items():
        text = text.replace(old, new)
    return text


def pretty(value: Any, indent: str = "", used: int = 0) -> str:
    """JSON for people: what fits on a line stands on it."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + used + len(flat) < COLUMNS:
        return flat
    inner = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + pretty(one, inner) for one in value) + f"\n{indent}]"
    items = [f'"{name}": ' + pretty(one, inner, len(name) + 4) for name, one in value.items()]
    return "{\n" + "\n".join(_filled(items, inner)) + f"\n{indent}}}"


def _filled(items: list[str], indent: str) -> Iterator[str]:
    """As many short items on a line as fit; one of several lines stands alone."""
    line = indent
    for number, item in enumerate(items):
        text = item + ("," if number < len(items) - 1 else "")
        if line.strip() and ("\n" in line + text or len(line) + len(text) >= COLUMNS):
            yield line.rstrip()
            line = indent
        line += text + " "
    yield line.rstrip()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
