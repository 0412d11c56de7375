"""The collector that spans go to: that its settings are right and somebody listens there."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from cli.doctor_findings import Finding, fault, note, ok, warning
from cli.doctor_place import Place
from cli.network_trouble import network_trouble
from shared.runtime.otel_settings import read_otel
from shared.runtime.settings import SettingsError

CONNECT_SECONDS: Final = 3.0
PORTS: Final = {"http": 80, "https": 443}


async def check_tracing(place: Place) -> list[Finding]:
    """Read the OTEL_ variables and connect to the collector."""
    try:
        settings = read_otel(place.own)
    except SettingsError as error:
        what_to_do = "Set it right: no service starts with it (docs/observability.md)."
        return [fault("tracing", line, what_to_do) for line in error.faults]
    if not settings.is_wanted:
        return [note("tracing", "off: OTEL_EXPORTER_OTLP_ENDPOINT names no collector")]
    parts = urlsplit(settings.endpoint)
    port = parts.port or PORTS[parts.scheme]
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port)
            writer.close()
    except (OSError, TimeoutError) as error:
        text, what_to_do = network_trouble(error)
        what_to_do = what_to_do or "Start it, or set OTEL_EXPORTER_OTLP_ENDPOINT right."
        return [warning("tracing", f"{parts.hostname}:{port} {text}: spans are lost", what_to_do)]
    return [
        ok("tracing", f"{settings.ratio:.4g} of the requests and every error go to {parts.hostname}:{port}")
    ]
