"""What the documents name is there: files, headings, commands and options, settings, paths, metrics."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from api.operations import OPERATIONS
from cli.__main__ import tollwire
from cli.env_example import text as env_example
from embedded.roles import LOGIN_ROLES
from tests.support import metrics_table

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A command in a sentence of code, or after settings on a line of its own; prose may follow far behind it.
COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(tollwire(?: .*?)?)(?:\s{2,}.*)?$", re.MULTILINE
)
SETTING = re.compile(r"TOLLWIRE_[A-Z][A-Z_]*[A-Z]\b")
PATH = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/(?:v1|admin/v1|healthz|readyz|openapi)[\w/{}.-]*)")
# Read where a name is put together, or by what is no service (see the places themselves).
OTHER_SETTINGS = {"TOLLWIRE_MIGRATE_DSN", "TOLLWIRE_LONG"}
OF_A_SERVICE = re.compile(r"TOLLWIRE_(API|WORKER|DLR|LEDGER)_POSTGRES_DSN")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    bare = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return bare.replace(" ", "-")


def code_of(text: str) -> Iterator[str]:
    """Every piece of code: the blocks with their continued lines joined, and what stands in sentences."""
    for _, block in FENCE.findall(text):
        yield block.replace("\\\n", " ")
    yield from INLINE.findall(FENCE.sub("", text))


def commands_in(text: str) -> Iterator[str]:
    for code in code_of(text):
        yield from COMMAND.findall(code)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    wrong = []
    for link in LINK.findall(FENCE.sub("", read(name))):
        file, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (ROOT / name).parent / file if file else ROOT / name
        has_anchor = not anchor or anchor in map(slug, HEADING.findall(target.read_text("utf-8")))
        if not target.exists() or not has_anchor:
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_there_with_its_options(name: str) -> None:
    assert [fault for command in commands_in(read(name)) for fault in faults_of(command)] == []


def faults_of(command: str) -> Iterator[str]:
    """What of a command line `tollwire` does not know."""
    words = shlex.split(command.partition(" #")[0])[1:]
    found: click.Command = tollwire
    context = click.Context(tollwire)
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        inner = found.get_command(context, words[0])
        if inner is None:
            # A word in capitals stands for any command.
            if not words[0].isupper():
                yield f"{command}: there is no {words[0]}"
            return
        found = inner
        del words[0]
    known = {"-h", "--help"} | {
        name for option in found.params for name in (*option.opts, *option.secondary_opts)
    }
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in known:
            yield f"{command}: there is no {word}"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_one(name: str) -> None:
    known = {*SETTING.findall(env_example()), *OTHER_SETTINGS}
    named = {setting for setting in SETTING.findall(read(name)) if not OF_A_SERVICE.fullmatch(setting)}
    assert named - known == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_the_api_is_served(name: str) -> None:
    served = {(one.method, re.sub(r"{\w+}", "{}", one.path)) for one in OPERATIONS}
    served.add(("GET", "/openapi.json"))
    identifier = r"(?<=/)(?:[0-9a-f-]{36}|{\w+}|ID)(?=/|$)"
    named = {
        (method, re.sub(identifier, "{}", path.rstrip("."))) for method, path in PATH.findall(read(name))
    }
    assert named - served == set()


def test_the_table_of_metrics_is_what_the_code_has() -> None:
    assert metrics_table.written() == metrics_table.DOCUMENT.read_text(encoding="utf-8"), (
        "write it anew: python -m tests.support.metrics_table"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_that_a_document_names_is_one(name: str) -> None:
    known = {"tollwire_owner", *LOGIN_ROLES}
    for metric in metrics_table.metrics():
        suffixes = ("", "_bucket", "_sum", "_count") if metric.kind.endswith("Histogram") else ("",)
        known |= {metric.name + suffix for suffix in suffixes}
    named = {word for code in code_of(read(name)) for word in re.findall(r"\btollwire_\w+", code)}
    assert named - known == set()


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))
    named = {
        target
        for name in NAMES
        for code in code_of(read(name))
        for target in re.findall(r"^make (\w+)", code, re.MULTILINE)
    }
    assert named <= targets


def test_the_index_of_decisions_has_a_line_for_each_number() -> None:
    folder = ROOT / "docs" / "adr"
    lines = [line for line in read("docs/adr/README.md").splitlines() if line.startswith("- ")]
    assert [line[2:].strip("[")[:4] for line in lines] == [f"{nth:04}" for nth in range(1, len(lines) + 1)]
    for page in folder.glob("0*.md"):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix(f"# {page.name[:4]}. ")
        assert f"- [{page.name[:4]}]({page.name}) {title}" in lines
