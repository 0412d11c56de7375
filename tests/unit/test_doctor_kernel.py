"""What is said of the kernel that keeps much before it writes."""

from pathlib import Path

import pytest

from cli import doctor_kernel
from cli.doctor_findings import Finding, Level
from cli.doctor_kernel import check_writeback
from cli.doctor_place import find_place
from cli.home import Home

ELSEWHERE = "postgresql://tollwire_api@db/tollwire"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the kernel's settings stand; a tenth of the memory, as Linux has it."""
    folder = tmp_path / "vm"
    folder.mkdir()
    monkeypatch.setattr(doctor_kernel, "VIRTUAL_MEMORY", folder)
    _say(folder, kept=0)
    return folder


def _say(folder: Path, *, kept: int) -> None:
    (folder / "dirty_background_bytes").write_text(f"{kept}\n")
    (folder / "dirty_background_ratio").write_text("10\n" if not kept else "0\n")


async def _found(folder: Path, **environ: str) -> list[Finding]:
    home = Home(folder / "home")
    home.make()
    # Where root has none yet, a home's PostgreSQL gets a folder outside of it, which nobody would remove.
    home.postgres.mkdir(exist_ok=True)
    home.write_ports({"postgresql": 1})  # an instance ran here
    return await check_writeback(find_place({"TOLLWIRE_HOME": str(home.path), **environ}, ()))


async def test_a_tenth_of_the_memory_is_noted_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pages = {"SC_PHYS_PAGES": 6 * 2**20, "SC_PAGE_SIZE": 4_096}  # 24 GiB
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    (found,) = await _found(tmp_path)
    assert found.level is Level.NOTE
    assert "once 2,457 MiB wait" in found.text
    assert "vm.dirty_background_bytes=16777216" in found.what_to_do


@pytest.mark.parametrize(("mebibytes", "level"), [(16, Level.OK), (64, Level.OK), (65, Level.NOTE)])
async def test_what_is_told_in_bytes_counts(
    settings: Path, tmp_path: Path, mebibytes: int, level: Level
) -> None:
    _say(settings, kept=mebibytes * 2**20)
    (found,) = await _found(tmp_path)
    assert (found.level, f"once {mebibytes} MiB wait" in found.text) == (level, True)


async def test_nothing_is_said_of_another_machine_or_another_system(settings: Path, tmp_path: Path) -> None:
    assert await _found(tmp_path, TOLLWIRE_POSTGRES_DSN=ELSEWHERE) == []
    (settings / "dirty_background_bytes").unlink()
    assert await _found(tmp_path) == []
