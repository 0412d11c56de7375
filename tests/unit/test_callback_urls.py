"""Spellings of URLs: the plain ones are taken apart, the clever ones are refused."""

import pytest

from shared.domain.callback_urls import (
    URL_LENGTH_MAX,
    CallbackUrlError,
    CallbackUrlSettings,
    UrlPolicy,
    parse_callback_url,
    policy_of,
)
from shared.runtime.settings import SettingsError, load

STRICT = UrlPolicy()
LAPTOP = UrlPolicy(allow_private=True)

# Each of these is 127.0.0.1, 169.254.169.254 or something inside to one parser or another.
NOT_CANONICAL = (
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0X7F.0.0.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.1./",
    "https://127.000.000.001/",
    "https://8.8.8/",
    "https://8.8.8.8.8/",
    "https://8.8.8.256/",
    "https://8.8.8.08/",
    "https://8.8.8.0x8/",
    "https://example.0x7f/",
    "https://example.1/",
    "https://0/",
    "https://0x/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[2606:4700:0:0:0:0:0:1111]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1/",
    "https://::1/",
    "https://[8.8.8.8]/",
    "https://[]/",
    "https://[::1]x/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://1%32%37.0.0.1/",
    "https://localhost/",
    "https://postgres/",
    "https://example.com./",
    "https://.example.com/",
    "https://ex..ample.com/",
    "https://-example.com/",
    "https://example-.com/",
    "https://exa mple.com/",
    "https://exämple.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 127}com/",
)

BLOCKED_LITERALS = (
    "https://127.0.0.1/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/",
    "https://[fd00::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[ff02::1]/",
    "https://255.255.255.255/",
)

MALFORMED = (
    "",
    "https://",
    "https:///path",
    "https:/example.com/",
    "https:example.com",
    "//example.com/",
    "example.com",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/_x",
    "javascript:alert(1)",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@169.254.169.254/",
    "https://example.com\\@169.254.169.254/",
    "https:\\\\example.com\\",
    "https://example.com/#fragment",
    "https://example.com#@127.0.0.1/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:0443/",
    "https://example.com:+443/",
    "https://example.com:65536/",
    "https://example.com:443:443/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:6379/",
    "https://example.com/a b",
    "https://example.com/a\tb",
    "https://example.com/a\r\nHost: internal",
    "https://example.com/\x00",
    " https://example.com/",
    "https://example.com/ ",
    "https://example.com/ü",
    "https://example.com/" + "a" * URL_LENGTH_MAX,
)


@pytest.mark.parametrize("text", [*NOT_CANONICAL, *BLOCKED_LITERALS, *MALFORMED])
def test_a_url_that_is_not_plain_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(CallbackUrlError) as caught:
        parse_callback_url(text, STRICT)

    assert len(str(caught.value)) > 15


@pytest.mark.parametrize(
    "text", [text for text in NOT_CANONICAL if "localhost" not in text and "postgres" not in text]
)
def test_a_laptop_refuses_other_spellings_too(text: str) -> None:
    with pytest.raises(CallbackUrlError):
        parse_callback_url(text, LAPTOP)


@pytest.mark.parametrize(
    ("text", "host", "port", "target", "authority"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("https://example.com/", "example.com", 443, "/", "example.com"),
        ("HTTPS://Example.COM/Hook", "example.com", 443, "/Hook", "example.com"),
        ("https://example.com?a=1", "example.com", 443, "/?a=1", "example.com"),
        ("https://example.com/a//b?c=%20&d[]=/?x", "example.com", 443, "/a//b?c=%20&d[]=/?x", "example.com"),
        ("https://example.com:443/", "example.com", 443, "/", "example.com"),
        ("https://example.com:8443/", "example.com", 8443, "/", "example.com:8443"),
        ("https://xn--exmple-cua.com/", "xn--exmple-cua.com", 443, "/", "xn--exmple-cua.com"),
        ("https://my_hooks.example.com/", "my_hooks.example.com", 443, "/", "my_hooks.example.com"),
        ("https://1.example.com/", "1.example.com", 443, "/", "1.example.com"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443"),
        ("https://[2606:4700::AB]/", "2606:4700::ab", 443, "/", "[2606:4700::ab]"),
    ],
)
def test_a_plain_url_is_taken_apart(text: str, host: str, port: int, target: str, authority: str) -> None:
    url = parse_callback_url(text, STRICT)

    assert (url.host, url.port, url.target, url.authority) == (host, port, target, authority)


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8088/",
        "http://127.0.0.1:5000/hook",
        "http://[::1]:3000/",
        "http://192.168.1.20:8080/",
        "http://receiver:9000/",
        "https://example.com:10443/",
    ],
)
def test_a_laptop_may_call_itself(text: str) -> None:
    assert parse_callback_url(text, LAPTOP).host in text


@pytest.mark.parametrize(
    "text", ["http://169.254.169.254/", "http://localhost:22/", "http://[::ffff:10.0.0.1]/"]
)
def test_a_laptop_still_calls_no_metadata_service_and_no_ssh(text: str) -> None:
    with pytest.raises(CallbackUrlError):
        parse_callback_url(text, LAPTOP)


def policy_from(**environ: str) -> UrlPolicy:
    return policy_of(
        load(CallbackUrlSettings, {f"TOLLWIRE_CALLBACK_{name}": text for name, text in environ.items()})
    )


def test_without_settings_only_public_https_is_called() -> None:
    assert policy_from() == STRICT


def test_a_laptop_is_a_setting() -> None:
    assert policy_from(ALLOW_PRIVATE="1") == LAPTOP


def test_plain_http_is_a_choice_of_the_operator() -> None:
    policy = policy_from(HTTPS_ONLY="0")

    assert parse_callback_url("http://example.com/", policy).authority == "example.com"


@pytest.mark.parametrize(
    ("policy", "ports"),
    [
        (UrlPolicy(), "80, 443, 8080, 8443"),
        (UrlPolicy(allow_private=True), "80, 443 and all from 1024 on"),
        (UrlPolicy(allow_private=True, ports=frozenset({9443})), "all from 1024 on"),
    ],
)
def test_a_port_that_is_not_called_is_told_with_all_that_are(policy: UrlPolicy, ports: str) -> None:
    with pytest.raises(CallbackUrlError) as caught:
        parse_callback_url("https://example.com:99/", policy)
    assert str(caught.value) == f"port 99 is not called; the ports that are: {ports}"


def test_an_operator_chooses_the_ports() -> None:
    policy = policy_from(PORTS="443,9443")

    assert parse_callback_url("https://example.com:9443/", policy).port == 9443
    with pytest.raises(CallbackUrlError, match="port 8443 is not called; the ports that are: 443, 9443"):
        parse_callback_url("https://example.com:8443/", policy)


def test_an_address_that_an_operator_shuts_is_refused_at_once() -> None:
    policy = policy_from(DENIED="8.8.8.8,9.9.9.9:8443")

    with pytest.raises(CallbackUrlError, match=r"8\.8\.8\.8 may not be called: shut by the operator"):
        parse_callback_url("https://8.8.8.8/", policy)
    assert parse_callback_url("https://9.9.9.9/", policy).port == 443


def test_an_entry_that_is_no_network_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="TOLLWIRE_CALLBACK_DENIED: 'intranet' is wrong"):
        policy_from(DENIED="intranet")
