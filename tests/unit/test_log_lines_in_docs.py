"""What the documents show of a log, and what they look for in it, is as the log has it."""

import ast
import io
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
import structlog

from shared.runtime import logs

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
LEVELS = ("debug", "info", "warning", "error", "exception")
SEARCH = re.compile(r"app\.kubernetes\.io/component=(?P<component>\w+) .*\| (?P<grep>grep .+)$", re.MULTILINE)
SHOWN = re.compile(r'^\{"ts".*\}$', re.MULTILINE)


def searches() -> Iterator[tuple[str, str, str]]:
    """Each search of a service's log: its page, the service, the command."""
    for page in DOCS:
        for found in SEARCH.finditer(page.read_text(encoding="utf-8")):
            yield page.stem, found["component"], found["grep"]


@cache
def logged_in(folder: str) -> list[tuple[str, str]]:
    """The level and the event of each line that the code in a folder can log."""
    found: list[tuple[str, str]] = []
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr=level),
                    args=[ast.Constant(value=str(event)), *_],
                ) if level in LEVELS:
                    found.append((level, event))
    return found


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Where lines go that are logged."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    logs.configure("worker", "debug", stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(("page", "component", "command"), list(searches()))
def test_a_search_of_a_log_finds_a_line_that_the_service_writes(
    page: str, component: str, command: str, written: io.StringIO
) -> None:
    for level, event in logged_in(component) + logged_in("shared"):
        getattr(structlog.get_logger(), level)(event)
    lines = written.getvalue()
    assert lines, page
    found = subprocess.run(shlex.split(command), input=lines, capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert found.stdout != lines, "it finds everything"


def test_a_search_of_several_pods_reads_all_of_their_lines() -> None:
    """With a selector kubectl shows the last ten lines of each pod, whatever --since says."""
    wanted = re.compile(r"^kubectl .*\blogs -l .*--since.*$", re.MULTILINE)
    lines = [line for page in DOCS for line in wanted.findall(page.read_text(encoding="utf-8"))]
    assert len(lines) > 10
    assert [line for line in lines if "--tail=-1" not in line] == []


def test_documents_search_logs() -> None:
    assert len(list(searches())) > 10


def test_lines_of_a_log_are_shown_as_they_are_written() -> None:
    shown = [line for page in DOCS for line in SHOWN.findall(page.read_text(encoding="utf-8"))]
    assert len(shown) >= 3
    for line in shown:
        assert msgspec.json.encode(json.loads(line)).decode() == line
        assert list(json.loads(line))[:4] == ["ts", "level", "event", "service"]
