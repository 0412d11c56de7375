"""What is said of the Python that runs us."""

import sys
import sysconfig
from pathlib import Path

import pytest

from cli.doctor_findings import Level
from cli.doctor_machine import check_python
from cli.doctor_place import find_place
from shared.runtime.interpreter import is_optimized


@pytest.mark.parametrize(
    ("arguments", "prefix", "is_fast"),
    [
        ("'--enable-optimizations' '--with-lto'", "/usr/local", True),
        ("'--enable-shared' '--with-computed-gotos'", "/usr", True),
        (None, "/usr", True),
        ("'--enable-shared'", "/home/ann/.pyenv/versions/3.11.7", False),
        (None, "/opt/python", False),
    ],
)
async def test_a_slow_build_is_told_and_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str | None, prefix: str, is_fast: bool
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    monkeypatch.setattr(sys, "base_prefix", prefix)
    assert is_optimized() == is_fast
    (found,) = await check_python(find_place({"TOLLWIRE_HOME": str(tmp_path)}, ()))
    assert found.level is (Level.OK if is_fast else Level.NOTE)
    assert ("PYTHON=" in found.what_to_do) != is_fast
