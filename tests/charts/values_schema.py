"""Makes the chart's values.schema.json and README.md from values.yaml.

Run ``python -m tests.charts.values_schema``.

Types are those of the defaults; what a type alone cannot say stands in RULES. A key that is not in
values.yaml is refused, so that a typo never passes for a setting.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "tollwire"
MARK: Final = "# -- "
COMPONENTS: Final = ("api", "worker", "dlr", "ledger", "simulator")

# Of workers, what stands once for all their Deployments.
OF_ALL_POOLS: Final = {"enabled", "pools", "carriers", "podDisruptionBudget"}

_PORT = {"minimum": 1, "maximum": 65535}
_PORT_OR_NONE = {"minimum": 0, "maximum": 65535}
_NETWORKS = {"items": {"type": "string", "pattern": r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?(:[0-9]+)?$"}}
_LANES = {"items": {"enum": ["express", "normal", "bulk"]}, "minItems": 1, "uniqueItems": True}
_PORTS = {"items": {"type": "integer", **_PORT}, "minItems": 1}
_STRINGS = {"items": {"type": "string"}}
_SIZE = {"pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi)?$"}
_SIZE_OR_NONE = {"pattern": r"^([0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi)?)?$"}
_HOST = {"pattern": r"^[A-Za-z0-9.,:*-]*$"}
_COUNT = {"minimum": 0}
_ONE_OR_MORE = {"minimum": 1}
_QUANTITY_OR_NULL = {"type": ["integer", "string", "null"]}

# By path; "defaults.x" holds for x of every component too.
RULES: Final[dict[str, dict[str, Any]]] = {
    "image.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "logLevel": {"enum": ["debug", "info", "warning", "error"]},
    "tracing.endpoint": {"pattern": "^(https?://.+)?$"},
    "tracing.sampleRatio": {"type": "number", "minimum": 0, "maximum": 1},
    "postgresql.host": _HOST,
    "postgresql.port": _PORT,
    "postgresql.migrateHost": _HOST,
    "postgresql.migratePort": _PORT_OR_NONE,
    "postgresql.readHost": _HOST,
    "postgresql.readPort": _PORT_OR_NONE,
    "postgresql.readLagMaxSeconds": {"type": "number", "minimum": 0.1, "maximum": 600},
    "postgresql.tls.mode": {"enum": ["", "disable", "prefer", "require", "verify-ca", "verify-full"]},
    "postgresql.cnpg.instances": _ONE_OR_MORE,
    "postgresql.cnpg.synchronousStandbys": _COUNT,
    "postgresql.cnpg.storage.size": _SIZE,
    "postgresql.cnpg.walStorage.size": _SIZE_OR_NONE,
    "postgresql.cnpg.parameters": {"additionalProperties": {"type": "string"}},
    "postgresql.cnpg.pooler.instances": _ONE_OR_MORE,
    "postgresql.cnpg.pooler.defaultPoolSize": _ONE_OR_MORE,
    "postgresql.cnpg.pooler.maxClientConnections": _ONE_OR_MORE,
    "postgresql.cnpg.backup.method": {"enum": ["barmanObjectStore", "plugin", "volumeSnapshot"]},
    "postgresql.cnpg.backup.schedule": {"pattern": r"^(\S+ ){5}\S+$"},
    "nats.url": {"pattern": "^((nats|tls)://.+)?$"},
    "nats.replicas": {"enum": [1, 3, 5]},
    "nats.storeBytes": {"minimum": 64 * 2**20},
    "nats.monitoringEndpoint": {"pattern": "^([A-Za-z0-9.-]+:[0-9]+)?$"},
    "nats.compression": {"enum": ["none", "s2"]},
    "nats.tls.mode": {"enum": ["", "require", "verify-ca", "verify-full"]},
    "valkey.url": {"pattern": r"^(rediss?(\+sentinel|\+cluster)?://[^@]+)?$"},
    "valkey.tls.mode": {"enum": ["", "require", "verify-ca", "verify-full"]},
    "migrations.backoffLimit": _COUNT,
    "migrations.activeDeadlineSeconds": _ONE_OR_MORE,
    "migrations.ttlSecondsAfterFinished": _COUNT,
    "defaults.replicas": {"type": ["integer", "null"], "minimum": 0},
    "defaults.poolMin": {"minimum": 0, "maximum": 200},
    "defaults.poolMax": {"minimum": 1, "maximum": 200},
    "defaults.tmpSizeLimit": _SIZE,
    "defaults.terminationGracePeriodSeconds": {"minimum": 30},
    "defaults.podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"]},
    "defaults.podDisruptionBudget.minAvailable": _QUANTITY_OR_NULL,
    "api.trustedProxies": _NETWORKS,
    "dlr.trustedProxies": _NETWORKS,
    "api.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "dlr.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "api.service.port": _PORT,
    "dlr.service.port": _PORT,
    "api.autoscaling.minReplicas": _ONE_OR_MORE,
    "api.autoscaling.maxReplicas": _ONE_OR_MORE,
    "api.autoscaling.targetCPUUtilizationPercentage": {"minimum": 1, "maximum": 100},
    "worker.lanes": _LANES,
    "worker.carriers": {
        "items": {
            "type": "object",
            "required": ["cidr", "ports"],
            "additionalProperties": False,
            "properties": {
                "cidr": {"type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"},
                "ports": {"type": "array", **_PORTS},
            },
        }
    },
    "dlr.callbacks.ports": _PORTS,
    "dlr.callbacks.denied": _NETWORKS,
    **{
        f"{name}.keda.{key}": rule
        for name in ("worker", "dlr")
        for key, rule in {
            "minReplicaCount": _ONE_OR_MORE,
            "maxReplicaCount": _ONE_OR_MORE,
            "pollingInterval": _ONE_OR_MORE,
            "cooldownPeriod": _COUNT,
            "fallbackReplicas": _ONE_OR_MORE,
            "jetstream.lagThreshold": _ONE_OR_MORE,
            "prometheus.threshold": _ONE_OR_MORE,
        }.items()
    },
    "ledger.archive.afterDays": {"minimum": 2, "maximum": 3650},
    "ledger.archive.dropAfterDays": {"minimum": 30, "maximum": 3650},
    "ledger.archive.entriesDays": {"minimum": 60, "maximum": 3650},
    "ledger.persistence.size": _SIZE,
    "ledger.persistence.accessModes": {
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
        "minItems": 1,
    },
    "ingress.paths": {"items": {"type": "string", "pattern": "^/"}, "minItems": 1},
    "gateway.paths": {"items": {"type": "string", "pattern": "^/"}, "minItems": 1},
    "gateway.hostnames": _STRINGS,
    "gateway.adminHostnames": _STRINGS,
    "gateway.receiptsHostnames": _STRINGS,
    "networkPolicy.dnsPorts": _PORTS,
    "networkPolicy.natsPort": _PORT,
    "networkPolicy.valkeyPorts": _PORTS,
    "networkPolicy.tracingPort": _PORT,
    "networkPolicy.denied": _NETWORKS,
    "monitoring.serviceMonitor.interval": {"pattern": "^[0-9]+(ms|s|m)$"},
    "monitoring.serviceMonitor.scrapeTimeout": {"pattern": "^[0-9]+(ms|s|m)$"},
    "monitoring.prometheusRule.excludeRules": _STRINGS,
    "extraObjects": {"items": {"type": ["object", "string"]}},
}

# Objects that Kubernetes defines: their insides are checked by the API server, not by us.
FREE: Final = (
    "resources", "podSecurityContext", "securityContext", "startupProbe", "readinessProbe", "livenessProbe",
    "strategy", "behavior", "lifecycle", "labels", "annotations", "podLabels", "podAnnotations",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of the chart: its path, what it is for, its default."""

    path: str
    text: str
    default: Any


class UndocumentedError(Exception):
    """Settings without a line of explanation; the text names them."""


def load() -> dict[str, Any]:
    """The defaults."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))


def rows() -> list[Row]:
    """Every setting in the order of values.yaml.

    Raises:
        UndocumentedError: some have no comment.
    """
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = list(_rows(root, text.splitlines(), ()))
    bare = [row.path for row in found if not row.text]
    if bare:
        raise UndocumentedError(", ".join(bare))
    return found


def _rows(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...]) -> Iterator[Row]:
    for key, value in node.value:
        name = (*path, key.value)
        above = lines[key.start_mark.line - 1].strip() if key.start_mark.line else ""
        text = above.removeprefix(MARK) if above.startswith(MARK) else ""
        if text or not (isinstance(value, yaml.MappingNode) and value.value):
            yield Row(".".join(name), text, yaml.SafeLoader("").construct_document(value))
        if isinstance(value, yaml.MappingNode) and not text:
            yield from _rows(value, lines, name)


def schema() -> dict[str, Any]:
    """The JSON schema of the values."""
    values = load()
    found = _object(values, "")
    defaults = found["properties"]["defaults"]["properties"]
    for name in COMPONENTS:
        own = found["properties"][name]["properties"]
        found["properties"][name]["properties"] = {**defaults, **own}
    worker = dict(found["properties"]["worker"]["properties"])
    pool = {key: value for key, value in worker.items() if key not in OF_ALL_POOLS}
    found["properties"]["worker"]["properties"]["pools"] = {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]([a-z0-9-]{0,14}[a-z0-9])?$"},
        "additionalProperties": {"type": "object", "properties": pool, "additionalProperties": False},
    }
    # Helm itself adds `global` to every chart's values.
    found["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of Tollwire", **found}


def _object(values: dict[str, Any], path: str) -> dict[str, Any]:
    properties = {key: _property(value, f"{path}{key}") for key, value in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(value: Any, path: str) -> dict[str, Any]:
    name = path.rpartition(".")[2]
    rule = RULES.get(path) or (
        RULES.get(f"defaults.{path.partition('.')[2]}") if _is_of_component(path) else None
    )
    if isinstance(value, dict) and value and name not in FREE:
        return _object(value, f"{path}.")
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    kind = {} if value is None else {"type": kinds[type(value)]}
    return {**kind, **(rule or {})}


def _is_of_component(path: str) -> bool:
    return path.partition(".")[0] in COMPONENTS


def readme() -> str:
    """README.md of the chart: its head by hand, the table from values.yaml."""
    head = (CHART / "README.head.md").read_text(encoding="utf-8").rstrip()
    lines = [head, "", "## Values", "", "| value | default | |", "|---|---|---|"]
    for row in rows():
        default = json.dumps(row.default, separators=(", ", ": "), ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{row.path}` | `{default}` | {row.text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def made() -> dict[Path, str]:
    """Every file that is made here, with what belongs in it."""
    return {
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        CHART / "README.md": readme(),
    }


def main() -> int:
    """Write the files."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
