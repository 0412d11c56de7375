"""NetworkPolicies, both ways: what may come in and go out, and that callbacks reach no network of ours."""

import ipaddress
from typing import Any

import pytest

from shared.domain.callback_networks import _RULES
from tests.charts.rendering import HELM4, VALUE_SETS, Object, named, of_kind, rendered

FULL, MINIMAL = rendered("full"), rendered("minimal")


def egress(objects: tuple[Object, ...], name: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = named(objects, "NetworkPolicy", name)["spec"]["egress"]
    return rules


def blocks(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The address blocks that rules open to the Internet."""
    peers = [peer for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer]
    return [peer["ipBlock"] for peer in peers if peer["ipBlock"]["cidr"] in {"0.0.0.0/0", "2000::/3"}]


def is_open(rules: list[dict[str, Any]], text: str) -> bool:
    """Whether a rule lets this address through."""
    address = ipaddress.ip_address(text)
    for block in blocks(rules):
        if address in ipaddress.ip_network(block["cidr"]):
            return not any(address in ipaddress.ip_network(one) for one in block["except"])
    return False


@pytest.mark.parametrize("name", VALUE_SETS)
def test_everything_that_runs_has_a_policy_both_ways(name: str) -> None:
    objects = rendered(name)
    selectors = [
        one["spec"]["podSelector"]["matchLabels"]
        for one in of_kind(objects, "NetworkPolicy")
        if one["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ]
    for running in of_kind(objects, "Deployment", "Job", "Pod"):
        is_pod = running["kind"] == "Pod"
        labels = (running if is_pod else running["spec"]["template"])["metadata"]["labels"]
        assert [one for one in selectors if one.items() <= labels.items()], running["metadata"]["name"]


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.31.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
     "168.63.129.16", "fd00::1", "fe80::1", "::1", "64:ff9b::a00:1", "2001:db8::1", "2002:a00:1::1"],
)  # fmt: skip
def test_callbacks_and_carriers_connections_reach_no_reserved_network(address: str) -> None:
    for name in ("tollwire-dlr", "tollwire-worker"):
        assert not is_open(egress(MINIMAL, name), address)


def test_the_second_wall_is_no_lower_than_the_first() -> None:
    """Whatever dlr itself refuses to connect to is shut in the policy too."""
    rules = egress(MINIMAL, "tollwire-dlr")
    ends = [end for rule in _RULES for end in (rule.network.network_address, rule.network.broadcast_address)]
    assert [str(end) for end in ends if is_open(rules, str(end))] == []
    assert len(ends) > 60


def test_public_addresses_are_reached_on_the_ports_of_callbacks() -> None:
    rules = egress(MINIMAL, "tollwire-dlr")
    assert is_open(rules, "93.184.216.34")
    assert is_open(rules, "2606:2800:220:1:248:1893:25c8:1946")
    (rule,) = [one for one in rules if blocks([one])]
    assert [one["port"] for one in rule["ports"]] == [80, 443, 8080, 8443]


def test_an_operator_shuts_networks_of_their_own() -> None:
    rules = egress(FULL, "sms-dlr")
    assert not is_open(rules, "100.100.1.1")
    assert not is_open(rules, "2600:1f00::1")


def test_named_carriers_are_the_only_ones_that_workers_reach() -> None:
    rules = egress(FULL, "sms-worker")
    assert blocks(rules) == []
    assert {"ipBlock": {"cidr": "198.51.100.0/24"}} in [peer for one in rules for peer in one.get("to", [])]


def test_the_ledger_and_the_jobs_reach_no_internet_and_nobody_reaches_them_but_for_metrics() -> None:
    for objects, full in ((MINIMAL, "tollwire"), (FULL, "sms")):
        for component in ("ledger", "migrate", "bootstrap", "api"):
            assert blocks(egress(objects, f"{full}-{component}")) == []
    ledger = named(MINIMAL, "NetworkPolicy", "tollwire-ledger")["spec"]["ingress"]
    assert [[port["port"] for port in rule["ports"]] for rule in ledger] == [[9464]]
    assert not named(MINIMAL, "NetworkPolicy", "tollwire-migrate")["spec"]["ingress"]


def test_names_are_asked_of_dns_pods_and_of_a_cache_on_the_node() -> None:
    """A cache on the node is no pod that a selector could match."""
    dns = egress(MINIMAL, "tollwire-migrate")[0]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"]
    assert dns["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def test_the_ports_of_dns_are_the_operators() -> None:
    """OpenShift's pods listen on 5353, and a policy is asked about the pod's port."""
    settings = ("--set", "networkPolicy.dnsPorts={5353}")
    for policy in of_kind(rendered("minimal", HELM4, *settings), "NetworkPolicy"):
        assert {port["port"] for port in policy["spec"]["egress"][0]["ports"]} == {5353}


def test_migrations_and_services_reach_each_port_of_postgresql_that_is_named() -> None:
    ports = {port["port"] for rule in egress(FULL, "sms-migrate") for port in rule["ports"]}
    assert {5432, 5433, 6432, 53} == ports


@pytest.mark.parametrize(
    ("settings", "ports"),
    [
        # The service's port and the pod's may be two: what a policy names is added, never taken away.
        ("postgresql.host=a\\,b:5433", {5432, 5433}),
        ("postgresql.host=a:6432,postgresql.port=6432,postgresql.migrateHost=b:5434", {6432, 5434}),
        ("postgresql.readHost=c:5435", {5432, 5435}),
        ("nats.url=nats://a:4333\\,nats://b", {4222, 4333}),
        ("nats.url=tls://[fd00::1]:4334", {4222, 4334}),
        ("nats.url=tls://[fd00::1]", {4222}),
        ("valkey.url=rediss://valkey:6380/0", {6379, 6380}),
        ("valkey.url=redis+sentinel://a:26380\\,b/name/0", {6379, 26379, 26380}),
        ("valkey.url=rediss+cluster://a:7000\\,b:7001", {6379, 7000, 7001}),
        ("valkey.url=redis://valkey", {6379}),
        ("tracing.endpoint=http://otel:4319/v1", {4318, 4319}),
        ("tracing.endpoint=https://otel.example.com", {4318, 443}),
    ],
)
def test_a_policy_opens_every_port_that_the_values_name(settings: str, ports: set[int]) -> None:
    objects = rendered("minimal", HELM4, "--set", settings)
    beside = {53, 5432, 4222} - {5432 if "postgresql" in settings else 4222 if "nats" in settings else 0}
    for component in ("api", "ledger"):
        opened = [port for rule in egress(objects, f"tollwire-{component}") for port in rule["ports"]]
        assert {one["port"] for one in opened} == ports | beside
        assert len(opened) == 1 + len(ports | beside), "each once, and DNS by two protocols"


def test_every_host_of_the_value_sets_is_reached_on_its_port() -> None:
    (migrate, *_) = [egress(rendered("gitops"), f"tollwire-{one}") for one in ("migrate", "bootstrap")]
    assert {port["port"] for rule in migrate for port in rule["ports"]} == {53, 5432, 5433}


@pytest.mark.parametrize("settings", ["", "networkPolicy.apiFrom[0].ipBlock.cidr=10.0.0.0/8"])
def test_helm_test_reaches_what_it_asks(settings: str) -> None:
    """Whoever may call the api, the pod that asks for its document may."""
    objects = rendered("minimal", HELM4, *(("--set", settings) if settings else ()))
    rules = named(objects, "NetworkPolicy", "tollwire-api")["spec"]["ingress"]
    for port in (8080, 9464):
        asked = [rule for rule in rules if port in [one["port"] for one in rule["ports"]]]
        components = [
            value
            for rule in asked
            for peer in rule.get("from", [])
            for one in peer.get("podSelector", {}).get("matchExpressions", [])
            for value in one["values"]
        ]
        is_for_all = any("from" not in rule or {"namespaceSelector": {}} in rule["from"] for rule in asked)
        assert is_for_all or "test" in components


def test_the_way_in_shows_neither_metrics_nor_health_nor_operators_paths() -> None:
    (ingress,) = of_kind(FULL, "Ingress")
    paths = {
        rule["host"]: [path["path"] for path in rule["http"]["paths"]] for rule in ingress["spec"]["rules"]
    }
    assert paths == {
        "api.example.com": ["/v1", "/docs", "/openapi.json"],
        "admin.internal.example.com": ["/admin"],
        "receipts.example.com": ["/receipts"],
    }
    routes = {one["metadata"]["name"]: one["spec"] for one in of_kind(FULL, "HTTPRoute")}
    assert {name: spec["hostnames"] for name, spec in routes.items()} == {
        "sms": ["api.example.com"],
        "sms-admin": ["admin.internal.example.com"],
        "sms-receipts": ["receipts.example.com"],
    }
    public = [match["path"]["value"] for rule in routes["sms"]["rules"] for match in rule["matches"]]
    assert not [path for path in public if path.startswith(("/admin", "/metrics", "/readyz", "/healthz"))]
