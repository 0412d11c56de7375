"""Runs the real Helm and kubectl as somebody whose home is empty."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.charts.tools import Tool

RUN_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Client:
    """A program with a home of its own, so that nothing of this machine's shows.

    Args:
        tool: which one.
        home: an empty folder.
        environ: besides.
    """

    tool: Tool
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, is_expected_to_fail: bool = False, stdin: str = "") -> str:
        """Run it and return what it said on both outputs.

        Raises:
            AssertionError: it failed, or did not when it had to.
        """
        done = subprocess.run(
            [str(self.tool.program), *words], input=stdin, capture_output=True, text=True, check=False,
            timeout=RUN_SECONDS, env={"PATH": os.defpath, "HOME": str(self.home), **self.environ},
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is is_expected_to_fail, f"{self.tool.name} {' '.join(words)}\n{said}"
        return said
