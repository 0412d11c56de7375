"""What the sizes are computed from: what the bench measured, and what is assumed, each with its reason."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

HERE: Final = Path(__file__).resolve().parent
MEASURED: Final = HERE / "measured.json"
ASSUMED: Final = HERE / "assumptions.toml"
# How the bench calls what `take` reads.
CPU, MEMORY, KEPT, WAL = "CPU of ", "memory of ", "kept in ", "WAL"
SCENARIO: Final = "keeping"
KILOBYTE: Final = 1_000


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one message cost on one machine.

    Args:
        source: what was run, on which commit, in a sentence.
        cpu_us: by process.
        memory_mb: by process, under that load.
        kept_bytes: by table or stream, indexes included.
        wal_bytes: written for a message.
    """

    source: str
    cores: int
    cpu_us: Mapping[str, float]
    memory_mb: Mapping[str, float]
    kept_bytes: Mapping[str, float]
    wal_bytes: float


class Assumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number that nobody measured, or that is a choice."""

    value: float
    unit: str
    why: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tables that are kept for the same time. ``days`` by policy."""

    name: str
    setting: str
    days: Mapping[str, float]
    partitions: int
    tables: Sequence[str]


class Assumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file of assumptions, section by section."""

    load: Mapping[str, Assumption]
    sizing: Mapping[str, Assumption]
    backup: Mapping[str, Assumption]
    cell: Mapping[str, Assumption]
    price: Mapping[str, Assumption]
    kept: Sequence[Kept]

    def sections(self) -> dict[str, Mapping[str, Assumption]]:
        """The sections that hold numbers, by name."""
        return {name: getattr(self, name) for name in ("load", "sizing", "backup", "cell", "price")}


def read_measured(path: Path = MEASURED) -> Measured:
    """Return the figures of the bench that are committed."""
    return msgspec.json.decode(path.read_bytes(), type=Measured)


def read_assumed(path: Path = ASSUMED) -> Assumed:
    """Return the assumptions.

    Raises:
        msgspec.ValidationError: a section or a field is missing or unknown.
    """
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Assumed)


def measured_of(document: bytes) -> Measured:
    """Return the figures of a run that the bench kept (``bench/out/<time>.json``).

    Raises:
        ValueError: the scenario `keeping` is not in it.
    """
    run = msgspec.json.decode(document)
    found = {row["name"]: row["spread"]["median"] for row in run["figures"] if row["scenario"] == SCENARIO}
    if WAL not in found:
        raise ValueError(f"there is no scenario {SCENARIO!r} in this run: python -m bench run {SCENARIO}")

    def named(prefix: str, factor: float = 1) -> dict[str, float]:
        return {
            name.removeprefix(prefix): round(value * factor, 1)
            for name, value in found.items()
            if name.startswith(prefix)
        }

    source = f"The bench's scenario `{SCENARIO}`, commit {run['commit'][:7]}"
    return Measured(
        source, run["cores"], named(CPU), named(MEMORY), named(KEPT, KILOBYTE),
        round(found[WAL] * KILOBYTE, 1),
    )  # fmt: skip
