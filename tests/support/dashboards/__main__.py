"""Writes the dashboards anew."""

from tests.support.dashboards.files import FOLDER, documents

FOLDER.mkdir(parents=True, exist_ok=True)
for name, text in documents().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
