"""Seals as files: what a database cannot take back (RULES 27).

A file a day, ``2026-11-20.json``: one line of JSON with its keys in order and no spaces, so that the same
seal is always the same bytes. A file is never written over: when the database says something else than a
file that is there, somebody has to look.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from ledger.checkpoints import Seal, SignedSeal
from ledger.findings import Finding

VERSION: Final = 1
SUFFIX: Final = ".json"
NAME: Final = re.compile(r"\d{4}-\d{2}-\d{2}\.json")
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


class SealFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file holds; hashes and signature in hex.

    Signed by ``key_id`` is the text ``{day} {accounts} {entries} {root} {amounts}``, amounts as they stand
    here. ``root_before`` is the root of the seal before it, which is part of its own.
    """

    v: int
    day: date
    accounts: int
    entries: int
    amounts: dict[str, dict[str, dict[str, int]]]
    root: str
    root_before: str
    signature: str
    key_id: str


@dataclass(slots=True)
class Exported:
    """What became of an export. ``differing``: days whose file holds another seal; it was left alone."""

    written: list[date] = field(default_factory=list)
    kept: list[date] = field(default_factory=list)
    differing: list[date] = field(default_factory=list)


def as_file(signed: SignedSeal) -> SealFile:
    """Return what a seal's file holds."""
    seal = signed.seal
    return SealFile(
        v=VERSION,
        day=seal.day,
        accounts=seal.accounts,
        entries=seal.entries,
        amounts={currency: dict(kinds) for currency, kinds in seal.amounts.items()},
        root=seal.root.hex(),
        root_before=signed.root_before.hex(),
        signature=signed.signature.hex(),
        key_id=signed.key_id,
    )


def encode(signed: SignedSeal) -> bytes:
    """Return a file's bytes; the same for the same seal."""
    return msgspec.json.encode(as_file(signed), order="sorted") + b"\n"


def decode(text: bytes) -> SignedSeal:
    """Read a file's bytes.

    Raises:
        ValueError: they are no seal of a version that is known here.
    """
    file = msgspec.json.decode(text, type=SealFile)
    if file.v != VERSION:
        raise ValueError(f"version {file.v} is not known here")
    seal = Seal(file.day, file.accounts, file.entries, file.amounts, bytes.fromhex(file.root))
    before, signature = bytes.fromhex(file.root_before), bytes.fromhex(file.signature)
    return SignedSeal(seal, before, signature, file.key_id)


def export(folder: Path, seals: Iterable[SignedSeal]) -> Exported:
    """Write the files that are missing, each whole or not at all, and durably.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    done = Exported()
    for signed in seals:
        day, text = signed.seal.day, encode(signed)
        path = folder / f"{day.isoformat()}{SUFFIX}"
        if not path.exists():
            _write(path, text)
            done.written.append(day)
        elif path.read_bytes() == text:
            done.kept.append(day)
        else:
            done.differing.append(day)
    if done.written:
        _sync(folder)
    return done


def _write(path: Path, text: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: Path) -> tuple[dict[date, SignedSeal], list[Finding]]:
    """Return the seals of a folder by day, and which of its files hold none, or one of another day.

    Raises:
        OSError: the folder or a file cannot be read.
    """
    seals: dict[date, SignedSeal] = {}
    findings = []
    for path in sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)):
        try:
            signed = decode(path.read_bytes())
        except ValueError as error:
            findings.append(Finding("seal_file_unreadable", f"{path.name}: {error}"))
            continue
        if path.name != f"{signed.seal.day.isoformat()}{SUFFIX}":
            text = f"{path.name}: the file holds the seal of {signed.seal.day}"
            findings.append(Finding("seal_file_unreadable", text))
            continue
        seals[signed.seal.day] = signed
    return seals, findings
