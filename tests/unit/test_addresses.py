"""Whose request it is, behind proxies that are trusted and before those that are not (RULES 37)."""

import re

import pytest
from structlog.testing import capture_logs

from shared.runtime.addresses import (
    HOP_SHOWN_CHARACTERS,
    AddressReader,
    limit_subject,
    network_as_read,
    read_address,
)

PROXIES = ("10.0.0.0/8", "2001:db8:f::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("2001:db8:f::1", ["2001:db8:1::5"], "2001:db8:1::5"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1:4711, 10.1.1.1:80"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1::5]:44"], "2001:db8:1::5"),
        ("10.0.0.1", ["[2001:db8:1::5]"], "2001:db8:1::5"),
        ("10.0.0.1", ["2001:db8:1::5:44"], "2001:db8:1::5:44"),
        ("10.0.0.1", ["198.51.100.1:port"], "10.0.0.1"),
        ("10.0.0.1", ["[198.51.100.1"], "10.0.0.1"),
        (None, ["198.51.100.1"], "0.0.0.0"),
    ],
)
def test_the_first_address_that_no_trusted_proxy_owns_is_the_caller(peer, forwarded, caller):
    assert AddressReader(PROXIES).caller(peer, forwarded) == caller


def test_a_trusted_proxy_that_forwards_for_no_address_is_told_of_once():
    reader = AddressReader(PROXIES)
    with capture_logs() as lines:
        for hop in ("198.51.100.1:4711", "unknown" * 100, "unknown"):
            reader.caller("10.0.0.1", [hop])
        reader.caller("203.0.113.9", ["unknown"])
    assert [(line["log_level"], line["proxy"]) for line in lines] == [("warning", "10.0.0.1")]
    assert lines[0]["forwarded_for"] == ("unknown" * 100)[:HOP_SHOWN_CHARACTERS]


def test_without_trusted_proxies_nobody_is_believed():
    assert AddressReader(()).caller("10.0.0.1", ["198.51.100.1"]) == "10.0.0.1"


def test_a_chain_that_is_too_long_is_read_from_its_trusted_end_only():
    chain = ", ".join(["192.0.2.66"] + ["10.0.0.2"] * 50)
    assert AddressReader(PROXIES).caller("10.0.0.1", [chain]) == "10.0.0.2"


def test_a_network_that_is_none_is_refused_at_the_start():
    with pytest.raises(ValueError, match="nonsense"):
        AddressReader(("nonsense",))


def test_an_ipv6_customer_is_limited_as_one():
    assert limit_subject("2001:db8:1:2::1") == limit_subject("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert limit_subject("2001:db8:1:3::1") != limit_subject("2001:db8:1:2::1")
    assert limit_subject("198.51.100.1") == "198.51.100.1"


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:198.51.100.7", "198.51.100.7/32"),
        ("::ffff:198.51.100.0/120", "198.51.100.0/24"),
        ("::/0", "::/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("198.51.100.0/24", "198.51.100.0/24"),
        ("198.51.100.0/255.255.255.0", "198.51.100.0/24"),
        ("198.51.100.7", "198.51.100.7/32"),
    ],
)
def test_a_network_is_written_as_its_callers_are_read(text, network):
    assert network_as_read(text) == network


@pytest.mark.parametrize(
    "text",
    ["nonsense", " 10.1.2.3", "10", "10.1", "10.1.2.3/8", "fe80::1%1", "fe80::%1/64", "::ffff:1.2.3.4%1/128"],
)
def test_what_is_no_network_in_full_is_read_as_none(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        network_as_read(text)


def test_an_ipv4_address_written_as_ipv6_is_that_address():
    assert str(read_address("::ffff:198.51.100.1")) == "198.51.100.1"
