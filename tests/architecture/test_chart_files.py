"""What the chart has twice is the same: made files, and copies of what lives elsewhere."""

import ipaddress
from pathlib import Path

import yaml

from shared.domain.callback_networks import _RULES
from tests.charts.values_schema import CHART, made

ROOT = Path(__file__).resolve().parents[2]


def test_schema_and_readme_of_the_chart_are_as_made_from_its_values() -> None:
    """`python -m tests.charts.values_schema` makes them anew."""
    stale = [path.name for path, text in made().items() if path.read_text(encoding="utf-8") != text]
    assert stale == []


def test_the_roles_that_cloudnativepg_makes_are_those_of_the_migrations() -> None:
    copy = CHART / "files" / "bootstrap.sql"
    assert copy.read_text() == (ROOT / "alembic" / "bootstrap.sql").read_text(), f"copy it to {copy}"


def test_the_networks_that_policies_shut_are_those_that_callbacks_never_reach() -> None:
    reserved = yaml.safe_load((CHART / "files" / "reserved-networks.yaml").read_text())
    public = ipaddress.IPv6Network("2000::/3")
    networks = [rule.network for rule in _RULES]
    four = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    six = [one for one in networks if isinstance(one, ipaddress.IPv6Network) and one.subnet_of(public)]
    assert reserved == {
        "ipv4": [str(one) for one in sorted(ipaddress.collapse_addresses(four))],
        "ipv6": [str(one) for one in sorted(ipaddress.collapse_addresses(six))],
    }
