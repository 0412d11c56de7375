"""What a service would stumble over only later is refused with the setting's name when it is read."""

import socket
from pathlib import Path

import msgspec
import pytest

from api.settings import ApiSettings
from dlr.poster import CallbackSettings
from dlr.settings import DlrSettings
from ledger.retention_settings import RetentionSettings
from ledger.settings import LedgerSettings
from shared.domain.callback_urls import CallbackUrlSettings
from shared.runtime.listening import told_by_settings
from shared.runtime.settings import SettingsError, load
from simulator.settings import Settings as SimulatorSettings
from worker.settings import WorkerSettings

ENOUGH = {
    "TOLLWIRE_POSTGRES_DSN": "postgresql://tollwire_api:secret-word@db/tollwire",
    "TOLLWIRE_KEYRING_FILE": "/etc/tollwire/keyring.json",
}
LANES = "it must be lanes out of express, normal, bulk, each once, separated by commas"
HOST = "it must be an address or a name of this machine, as 127.0.0.1 or ::"


def fault_of(kind: type[msgspec.Struct], name: str, value: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(kind, {**ENOUGH, f"TOLLWIRE_{name}": value})
    (fault,) = caught.value.faults
    assert fault.startswith(f"TOLLWIRE_{name}: ")
    return fault.removeprefix(f"TOLLWIRE_{name}: ")


@pytest.mark.parametrize("value", ["fast", "express,nromal,bulk", ",", "EXPRESS"])
def test_a_worker_serves_no_lane_that_there_is_not(value: str) -> None:
    assert fault_of(WorkerSettings, "LANES", value) == f"{value!r} is wrong; {LANES}"


def test_a_worker_serves_no_lane_twice() -> None:
    fault = fault_of(WorkerSettings, "LANES", "express,bulk,express")
    assert fault == "'express,bulk,express' is wrong; it must name each lane once"


def test_a_worker_may_serve_some_lanes() -> None:
    settings = load(WorkerSettings, {**ENOUGH, "TOLLWIRE_LANES": "bulk, express"})
    assert settings.lanes == ("bulk", "express")


@pytest.mark.parametrize("kind", [ApiSettings, DlrSettings])
def test_of_the_trusted_proxies_the_one_that_is_no_network_is_named(kind: type[msgspec.Struct]) -> None:
    fault = fault_of(kind, "TRUSTED_PROXIES", "10.0.0.7/8, ingress ,fd00::/8")
    assert fault == "'ingress' is wrong; it must be addresses and networks, separated by commas"


@pytest.mark.parametrize("kind", [CallbackUrlSettings, CallbackSettings])
def test_of_what_no_callback_goes_to_the_wrong_entry_is_named(kind: type[msgspec.Struct]) -> None:
    fault = fault_of(kind, "CALLBACK_DENIED", "198.51.100.7:443,198.51.100.300")
    assert fault.startswith("'198.51.100.300' is wrong; it must be at most 256 networks")


@pytest.mark.parametrize("value", [",", "80,https", "0"])
def test_callbacks_go_to_ports_that_there_are(value: str) -> None:
    right = "it must be numbers from 1 to 65535, separated by commas"
    assert fault_of(CallbackUrlSettings, "CALLBACK_PORTS", value) == f"{value!r} is wrong; {right}"


@pytest.mark.parametrize("value", ["[::]", "0.0.0.0:8080", "http://api", "1.2.3", "*", "a..b", "-a", "a b"])
def test_nothing_listens_on_what_is_no_host(value: str) -> None:
    for kind, name in (
        (ApiSettings, "HOST"),
        (DlrSettings, "RECEIPTS_HOST"),
        (SimulatorSettings, "SIMULATOR_HOST"),
        (WorkerSettings, "HEALTH_HOST"),
    ):
        assert fault_of(kind, name, value) == f"{value!r} is wrong; {HOST}"


@pytest.mark.parametrize("value", ["::", "0.0.0.0", "localhost", "api_1.internal", "fe80::1%eth0", "a4"])
def test_addresses_and_names_are_hosts(value: str) -> None:
    assert load(ApiSettings, {**ENOUGH, "TOLLWIRE_HOST": value}).host == value


@pytest.mark.parametrize(
    ("kind", "name"), [(LedgerSettings, "SEALS_FOLDER"), (RetentionSettings, "ARCHIVE_FOLDER")]
)
def test_a_file_is_no_folder_and_what_is_missing_may_be_made(
    kind: type[msgspec.Struct], name: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for wrong in (file, file / "below"):
        assert fault_of(kind, name, str(wrong)).endswith(" is wrong; it must be the path of a folder")
    for right in (tmp_path, tmp_path / "not" / "yet"):
        load(kind, {**ENOUGH, f"TOLLWIRE_{name}": str(right)})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    fault = fault_of(SimulatorSettings, "SIMULATOR_LOG", str(tmp_path))
    assert fault.endswith(" is wrong; it must be the path of a file")


@pytest.mark.parametrize("hosts", ["[fd00::1", "db:port", "db:99999", "a:5432,b:x"])
def test_a_dsn_with_a_host_that_cannot_be_read_is_named_and_not_shown(hosts: str) -> None:
    for name in ("POSTGRES_DSN", "POSTGRES_READ_DSN"):
        fault = fault_of(ApiSettings, name, f"postgresql://tollwire_api:hush@{hosts}/tollwire")
        assert fault.startswith("the value (not shown) is wrong; it must be like postgresql://")


@pytest.mark.parametrize(
    "dsn", ["postgresql:///tollwire?host=/run/postgresql", "postgres://a,[fd00::1]:5/db"]
)
def test_other_dsns_of_postgresql_are_taken(dsn: str) -> None:
    assert load(DlrSettings, {**ENOUGH, "TOLLWIRE_POSTGRES_DSN": dsn}).postgres_dsn[:11] == dsn[:11]


@pytest.mark.parametrize("url", ["nats://", "nats://a:x", "nats://a:4222,", "nats://a:4222,nats://b:-1"])
def test_a_url_of_nats_that_names_no_server_is_named_and_not_shown(url: str) -> None:
    fault = fault_of(WorkerSettings, "NATS_URL", url)
    assert fault == "the value (not shown) is wrong; it must be like nats://127.0.0.1:4222"


def test_servers_of_nats_may_be_written_without_a_port_or_a_scheme() -> None:
    urls = "nats://u:p@a, b:4222,tls://[::1]:4223"
    assert load(WorkerSettings, {**ENOUGH, "TOLLWIRE_NATS_URL": urls}).nats_url == urls


def test_a_file_of_authorities_for_callbacks_that_is_not_there_is_named(tmp_path: Path) -> None:
    fault = fault_of(CallbackSettings, "CALLBACK_CA_FILE", str(tmp_path / "ca.pem"))
    assert fault.endswith("cannot be read: No such file or directory")


def test_a_host_of_another_machine_is_told_by_its_settings() -> None:
    with (
        socket.socket() as door,
        pytest.raises(OSError, match=r"nothing can listen on 192\.0\.2\.7:80") as caught,
        told_by_settings("RECEIPTS_", "192.0.2.7", 80),
    ):
        door.bind(("192.0.2.7", 0))
    assert str(caught.value).endswith(
        "Cannot assign requested address; TOLLWIRE_RECEIPTS_HOST and TOLLWIRE_RECEIPTS_PORT name it"
    )
