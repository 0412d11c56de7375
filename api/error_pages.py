"""The dictionary of refusals for people: the page that a problem's ``type`` leads to, and docs/errors.md."""

import html
import sys
from typing import Final

from api.problems import STATUS
from shared.domain.problem_kinds import PROBLEMS, ProblemKind
from shared.domain.problems import ProblemCode

OF_ONE_FIELD: Final = frozenset(
    {ProblemCode.INVALID_NUMBER, ProblemCode.TEXT_TOO_LONG, ProblemCode.TEXT_NOT_STORABLE}
)
# Where static/errors.html takes the dictionary.
PLACE: Final = "<!-- errors -->"
MARKDOWN_HEAD: Final = """\
# Errors

<!-- Made by `python -m api.error_pages > docs/errors.md`; a test keeps it in step with the dictionary. -->

Every refusal is an RFC 9457 problem (`application/problem+json`). Decide by `code`: codes are added, never
changed; the sentences may change. A running service shows the same at `/docs/errors` and, as data, at
`/v1/errors`. `type` is `/docs/errors#<code>`, a reference that the service itself answers.

"""


def errors_page(template: str) -> str:
    """The dictionary as a page; ``type`` of every problem leads to its place here."""
    return template.replace(PLACE, "".join(_section(kind) for kind in by_status()))


def errors_markdown() -> str:
    """``docs/errors.md``: made from the dictionary, and checked for drift by a test."""
    return MARKDOWN_HEAD + "\n".join(_chapter(kind) for kind in by_status())


def by_status() -> list[ProblemKind]:
    """The dictionary in the order of HTTP statuses."""
    return sorted(PROBLEMS.values(), key=lambda kind: (STATUS[kind.code], kind.code))


def _notes(kind: ProblemKind) -> list[str]:
    notes = []
    if kind.remembered:
        notes.append("Stands under its Idempotency-Key for 72 hours.")
    if kind.repeatable:
        notes.append("The same request may succeed later.")
    if kind.code is ProblemCode.VALIDATION_FAILED:
        notes.append("`errors` is a list of `field` and `detail`, one for each bad field.")
    if kind.code in OF_ONE_FIELD:
        notes.append("`errors` names the field.")
    return notes


def _chapter(kind: ProblemKind) -> str:
    notes = "".join(f"- {note}\n" for note in _notes(kind))
    head = f"## {kind.code}\n\n**{STATUS[kind.code]}** {kind.title}.\n\n> {kind.detail}\n\n{kind.remedy}\n"
    return f"{head}\n{notes}" if notes else head


def _section(kind: ProblemKind) -> str:
    status = STATUS[kind.code]
    notes = "".join(f"<li>{_code(note)}</li>" for note in _notes(kind))
    return (
        f'<section class="error" id="{kind.code}"><h2><a href="#{kind.code}">{kind.code}</a>'
        f'<span class="status s{status // 100}">{status}</span></h2>'
        f"<p><strong>{_code(kind.title)}.</strong> {_code(kind.remedy)}</p>"
        f"<blockquote>{_code(kind.detail)}</blockquote>"
        + (f"<ul>{notes}</ul>" if notes else "")
        + "</section>\n"
    )


def _code(text: str) -> str:
    """Text as HTML; what stands in backticks is code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


if __name__ == "__main__":
    sys.stdout.write(errors_markdown())
