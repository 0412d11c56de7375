"""Every kind of address that a callback must not reach, and neighbours that it may."""

from ipaddress import ip_address

import pytest

from shared.domain.callback_networks import parse_denied, refusal

BLOCKED = {
    "0.0.0.0": "this host",
    "0.1.2.3": "this host",
    "100.64.0.1": "shared address space",
    "100.100.100.200": "shared address space",
    "100.127.255.255": "shared address space",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata",
    "169.254.170.2": "metadata",
    "192.0.0.8": "protocol assignments",
    "192.0.0.9": "protocol assignments",
    "192.0.0.192": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.255": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::2": "IPv4-compatible",
    "::7f00:1": "IPv4-compatible",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::ffff:0:7f00:1": "IPv4-translated",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::808:808": "NAT64",
    "64:ff9b:1::a9fe:a9fe": "NAT64",
    "100::1": "discard",
    "100:0:0:1::1": "dummy",
    "2001::1": "Teredo",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "2001:2::1": "protocol assignments",
    "2001:10::1": "protocol assignments",
    "2001:20::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::1": "6to4",
    "3fff::1": "documentation",
    "5f00::1": "segment routing",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "1000::1": "outside the public Internet",
    "4000::1": "outside the public Internet",
    "e000::1": "outside the public Internet",
}

PRIVATE = {
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.0.1": "private",
    "192.168.255.255": "private",
    "::1": "loopback",
    "fc00::1": "private",
    "fd12:3456:789a::1": "private",
}

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.114.1",
    "223.255.255.255",
    "2001:200::1",
    "2001:db7:ffff::1",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
)


@pytest.mark.parametrize(("address", "reason"), [*BLOCKED.items(), *PRIVATE.items()])
def test_an_address_that_is_not_public_is_refused_with_its_reason(address: str, reason: str) -> None:
    assert reason in (refusal(ip_address(address), 443) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    assert refusal(ip_address(address), 443) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_a_laptop_may_open_loopback_and_private_addresses(address: str) -> None:
    assert refusal(ip_address(address), 443, allow_private=True) is None


@pytest.mark.parametrize(("address", "reason"), BLOCKED.items())
def test_everything_else_stays_shut_even_then(address: str, reason: str) -> None:
    assert reason in (refusal(ip_address(address), 443, allow_private=True) or "")


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700::1%1"])
def test_an_address_with_a_zone_is_refused(address: str) -> None:
    assert refusal(ip_address(address), 443) == "an address with a zone"


def test_an_operator_shuts_an_address_a_network_or_one_port() -> None:
    denied = [
        parse_denied(entry) for entry in ("8.8.8.8:443", "9.9.9.0/24", "[2606:4700::1]:80", "2a00::/16")
    ]

    assert refusal(ip_address("8.8.8.8"), 443, denied=denied) == "shut by the operator"
    assert refusal(ip_address("8.8.8.8"), 8443, denied=denied) is None
    assert refusal(ip_address("9.9.9.9"), 8443, denied=denied) == "shut by the operator"
    assert refusal(ip_address("2606:4700::1"), 80, denied=denied) == "shut by the operator"
    assert refusal(ip_address("2606:4700::1"), 443, denied=denied) is None
    assert refusal(ip_address("2a00::1"), 443, denied=denied) == "shut by the operator"


def test_an_operators_list_holds_for_a_laptop_too() -> None:
    denied = [parse_denied("127.0.0.1:4222")]

    assert refusal(ip_address("127.0.0.1"), 4222, allow_private=True, denied=denied) == "shut by the operator"
    assert refusal(ip_address("127.0.0.1"), 8088, allow_private=True, denied=denied) is None


@pytest.mark.parametrize(
    "text", ["example.com", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4/33", "[::1]", "10.0.0.1/8", "1.2.3:80", ""]
)
def test_an_entry_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address, network, or address with a port"):
        parse_denied(text)
