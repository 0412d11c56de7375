"""Settings of tracing, by OpenTelemetry's own names, so that what operators know of other programs fits.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ The exporter reads its
own (OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION, _CERTIFICATE, OTEL_BSP_*) by itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.runtime.settings import SettingsError

RATIO_DEFAULT: Final = 0.01
SAMPLER_DEFAULT: Final = "parentbased_traceidratio"
ROOTS: Final = ("always_on", "always_off", "traceidratio")
SAMPLERS: Final = (*ROOTS, *(f"parentbased_{root}" for root in ROOTS))
PROTOCOL: Final = "http/protobuf"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

# For .env.example: what most operators set.
VARIABLES: Final = (
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "OTLP collector, as http://collector:4318. Empty: no tracing."),
    ("OTEL_EXPORTER_OTLP_HEADERS", "", "Headers for it, as authorization=Bearer%20token."),
    ("OTEL_TRACES_SAMPLER", SAMPLER_DEFAULT, f"One of {', '.join(SAMPLERS)}."),
    ("OTEL_TRACES_SAMPLER_ARG", str(RATIO_DEFAULT), "Share of requests that start a trace of their own."),
    ("OTEL_RESOURCE_ATTRIBUTES", "", "What to say of this process, as deployment.environment.name=prod."),
)


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """Whether spans are wanted, and of which requests."""

    endpoint: str
    is_wanted: bool
    is_parent_based: bool
    ratio: float


def read_otel(environ: Mapping[str, str]) -> OtelSettings:
    """Read the settings; an empty variable counts as absent.

    Raises:
        SettingsError: with a line for each that is wrong.
    """
    faults: list[str] = []
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), "")
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_wanted = bool(endpoint) and not is_disabled and environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
    if endpoint and not endpoint.startswith(("http://", "https://")):
        faults.append(f"{ENDPOINTS[1]}: {endpoint[:80]!r} is wrong; it must be like http://collector:4318")
    faults += [
        f"{name}: {environ[name][:80]!r} is wrong; it must be {PROTOCOL}"
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        if is_wanted and environ.get(name, PROTOCOL) not in {"", PROTOCOL}
    ]
    sampler = environ.get("OTEL_TRACES_SAMPLER") or SAMPLER_DEFAULT
    if sampler not in SAMPLERS:
        faults.append(
            f"OTEL_TRACES_SAMPLER: {sampler[:80]!r} is wrong; it must be one of {', '.join(SAMPLERS)}"
        )
    ratio = _ratio(environ.get("OTEL_TRACES_SAMPLER_ARG") or str(RATIO_DEFAULT), faults)
    if faults:
        raise SettingsError(faults)
    root = sampler.removeprefix("parentbased_")
    share = {"always_on": 1.0, "always_off": 0.0}.get(root, ratio)
    return OtelSettings(endpoint, is_wanted, sampler != root, share)


def _ratio(text: str, faults: list[str]) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        faults.append(f"OTEL_TRACES_SAMPLER_ARG: {text[:80]!r} is wrong; it must be a number from 0 to 1")
    return ratio
