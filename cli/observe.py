"""What `tollwire up --observe` adds: a Prometheus that collects from every process, with our rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cli.home import Home
from cli.port_choice import PortChoice
from cli.services import Launch
from embedded.prometheus import PrometheusServer, Target, find_prometheus

# Beside the packages in a checkout; an image has none, and there the chart brings the rules.
RULES: Final = Path(__file__).resolve().parents[1] / "charts" / "tollwire" / "rules"


def observer_of(home: Home, ports: PortChoice, launches: Sequence[Launch]) -> PrometheusServer:
    """Return a Prometheus for these processes, not started.

    Raises:
        NotInstalled: the machine has none; the message says how to get one.
    """
    return PrometheusServer(
        home.prometheus,
        program=find_prometheus(),
        targets=[target_of(launch) for launch in launches],
        rules=RULES,
        port=ports.port_of("prometheus"),
        log=home.log_of("prometheus"),
    )


def target_of(launch: Launch) -> Target:
    """Where a process shows its metrics. All instances of a service are one job, as in a cluster."""
    return Target(f"tollwire-{launch.module}", launch.name, launch.health_port, launch.health_address)
