"""The drawing shows the table."""

from pathlib import Path

from tests.support.state_drawing import drawing

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def test_the_drawing_in_the_document_is_made_from_the_table() -> None:
    assert f"```mermaid\n{drawing()}\n```" in ARCHITECTURE.read_text(encoding="utf-8")
