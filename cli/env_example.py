"""Writes .env.example from the types that read the settings: ``python -m cli.env_example > .env.example``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta

from api.settings import ApiSettings
from dlr.poster import CallbackSettings
from dlr.settings import DlrSettings
from ledger.retention_settings import RetentionSettings
from ledger.settings import LedgerSettings
from shared.domain.callback_urls import CallbackUrlSettings
from shared.runtime.otel_settings import VARIABLES
from shared.runtime.settings import env_example
from simulator.settings import Settings as SimulatorSettings
from worker.settings import WorkerSettings


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What ``tollwire`` itself reads, beside what it hands to the services."""

    home: Annotated[str, Meta(description="Folder that holds everything of an instance.")] = ".tollwire"
    port: Annotated[int, Meta(description="Port of the API.")] = 8080
    postgres_port: Annotated[int, Meta(description="Port of the embedded PostgreSQL. 0: a free one.")] = 0
    nats_port: Annotated[int, Meta(description="Port of the embedded NATS. 0: a free one.")] = 0
    valkey_port: Annotated[int, Meta(description="Port of the embedded Valkey. 0: a free one.")] = 0
    migrate_dsn: Annotated[
        str,
        Meta(
            description="PostgreSQL for migrations, as a role that may create roles. Empty: POSTGRES_DSN.",
            extra={"secret": True},
        ),
    ] = ""
    api_postgres_dsn: Annotated[
        str,
        Meta(
            description="A real PostgreSQL as tollwire_api, for `tollwire up`; WORKER, DLR, LEDGER likewise.",
            extra={"secret": True},
        ),
    ] = ""
    postgres_bin: Annotated[
        str, Meta(description="Folder with PostgreSQL's programs. Empty: those of the wheel.")
    ] = ""
    api_url: Annotated[
        str, Meta(description="API that `tollwire` commands ask. Empty: that of TOLLWIRE_HOME.")
    ] = ""
    api_key: Annotated[
        str, Meta(description="Key for it. Empty: that of TOLLWIRE_HOME.", extra={"secret": True})
    ] = ""


KINDS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        "tollwire": UpSettings,
        "tollwire-api": ApiSettings,
        "tollwire-api (callback URLs)": CallbackUrlSettings,
        "tollwire-worker": WorkerSettings,
        "tollwire-dlr": DlrSettings,
        "tollwire-dlr (callbacks)": CallbackSettings,
        "tollwire-ledger": LedgerSettings,
        "tollwire-ledger (retention)": RetentionSettings,
        "tollwire-simulator": SimulatorSettings,
    }
)


def text() -> str:
    """Return the file."""
    otel = [
        line
        for name, default, description in VARIABLES
        for line in (
            f"# {description}",
            "# Read by every service, as OpenTelemetry has it.",
            f"# {name}={default}",
            "",
        )
    ]
    return "\n".join([env_example(KINDS), *otel])


if __name__ == "__main__":
    print(text(), end="")
