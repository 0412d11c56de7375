"""The load tools in C: compiled on first use, into bench/out/."""

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).with_name("tools")
OUT: Final = Path(__file__).with_name("out")
# A thousand lines; zig, which compiles its C library first, takes half a minute.
COMPILE_SECONDS: Final = 180.0


class NoCompiler(Exception):  # noqa: N818 - named for what is missing
    """There is no C compiler here."""


def tools_program() -> Path:
    """Return the program that is load, sink, carrier and fsync in one; compile it when it is not there.

    Raises:
        NoCompiler: there is neither a `cc` nor zig's.
        subprocess.CalledProcessError: the compiler refused.
    """
    return compiled(SOURCES, "tools")


def compiled(sources: Path, name: str) -> Path:
    """Return the program made of the C files of a folder, made anew whenever one of them changes."""
    files = sorted(sources.glob("*.[ch]"))
    digest = hashlib.sha256(platform.platform().encode())
    for file in files:
        digest.update(file.read_bytes())
    program = OUT / f"{name}-{digest.hexdigest()[:12]}"
    if not program.exists():
        OUT.mkdir(exist_ok=True)
        scratch = program.with_suffix(".new")
        command = [*_compiler(), "-std=gnu11", "-O2", "-w", "-o", str(scratch)]
        sources_c = [str(file) for file in files if file.suffix == ".c"]
        subprocess.run([*command, *sources_c], check=True, timeout=COMPILE_SECONDS)
        scratch.rename(program)
    return program


def _compiler() -> list[str]:
    cc = shutil.which("cc")
    if cc is not None:
        return [cc]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NoCompiler("No C compiler: install one, or `pip install ziglang` into this environment.")
