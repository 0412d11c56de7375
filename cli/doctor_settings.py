"""Settings, as the services themselves read them; and names that nobody reads."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from api.settings import ApiSettings
from cli.doctor_findings import Finding, fault, ok, warning
from cli.doctor_place import Place
from cli.env_example import KINDS
from dlr.poster import CallbackSettings
from dlr.settings import DlrSettings
from ledger.retention_settings import RetentionSettings
from ledger.settings import LedgerSettings
from shared.domain.callback_urls import CallbackUrlSettings
from shared.runtime.settings import FILE, PREFIX, SettingsError, describe, load
from worker.settings import WorkerSettings

CHECK: Final = "settings"
READ_BY: Final[Mapping[str, Sequence[type[msgspec.Struct]]]] = {
    "api": (ApiSettings, CallbackUrlSettings),
    "worker": (WorkerSettings,),
    "dlr": (DlrSettings, CallbackSettings),
    "ledger": (LedgerSettings, RetentionSettings),
}
# Read by `tollwire` and the tests beside what `.env.example` lists.
OTHERS: Final = frozenset(
    {f"{PREFIX}{name}_POSTGRES_DSN" for name in ("API", "WORKER", "DLR", "LEDGER")}
    | {f"{PREFIX}{name}" for name in ("LONG", "RECEIPTS_URL")}
)


async def check_settings(place: Place) -> list[Finding]:
    """Read every setting of every service that is looked at."""
    faults: dict[str, list[str]] = {}
    for service, environ in place.environs.items():
        for kind in READ_BY[service]:
            for line in _faults(kind, environ):
                faults.setdefault(line, []).append(service)
    findings = [
        fault(CHECK, f"{line} ({', '.join(dict.fromkeys(readers))})", _help(line))
        for line, readers in faults.items()
    ]
    findings += [
        _unknown(name) for name in sorted(place.own) if name.startswith(PREFIX) and not _is_known(name)
    ]
    return findings or [ok(CHECK, f"right for {', '.join(place.environs)}")]


def _faults(kind: type[msgspec.Struct], environ: Mapping[str, str]) -> Sequence[str]:
    try:
        load(kind, environ)
    except SettingsError as error:
        return error.faults
    return ()


def _help(line: str) -> str:
    if line.startswith(f"{PREFIX}POSTGRES_DSN is missing"):
        return "Start an instance with `tollwire up`, name its folder in TOLLWIRE_HOME, or set this variable."
    return "Set it right and start the service again; .env.example says what each setting is for."


def _is_known(name: str) -> bool:
    known = _names() | OTHERS
    return name in known or name.removesuffix(FILE) in known


def _names() -> set[str]:
    return {setting.variable for kind in KINDS.values() for setting in describe(kind)}


def _unknown(name: str) -> Finding:
    close = difflib.get_close_matches(name, _names() | OTHERS, n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    return warning(CHECK, f"{name} is set, and nothing reads it", f"{meant}Remove it, or mend its name.")
