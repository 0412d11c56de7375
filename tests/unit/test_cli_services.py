from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.home import Home
from cli.port_choice import PortChoice
from cli.servers import Servers
from cli.services import INSTANCES_MAX, NAMES, Launch, parse_scale, plan
from embedded.nats import STORE_BYTES_AIR, STORE_BYTES_MIN
from embedded.ports import free_port
from embedded.postgres import CONNECTIONS_MAX
from shared.runtime.server_settings import Common
from shared.runtime.settings import load


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.make()
    yield made
    made.remove()  # also what root's PostgreSQL keeps elsewhere


def planned(home: Home, scale: str = "", **environ: str) -> dict[str, Launch]:
    ports = PortChoice({}, {"TOLLWIRE_PORT": str(free_port()), **environ})
    servers = Servers(home, ports, environ)
    return {launch.name: launch for launch in plan(home, ports, servers, parse_scale(scale), environ)}


def test_each_service_runs_once_unless_told_otherwise():
    assert parse_scale("") == dict.fromkeys(NAMES, 1)
    assert parse_scale("worker=3, api=2") == {**dict.fromkeys(NAMES, 1), "worker": 3, "api": 2}


@pytest.mark.parametrize(
    "text", ["workers=2", "worker", "worker=", "worker=0", "worker=99", "simulator=2", "=1"]
)
def test_a_scale_that_makes_no_sense_is_refused(text):
    with pytest.raises(click.BadParameter):
        parse_scale(text)


def test_each_process_has_its_own_role_and_health_port(home):
    launches = planned(home)
    assert list(launches) == list(NAMES)
    for name in ("ledger", "api", "worker", "dlr"):
        assert f"//tollwire_{name}:" in launches[name].environ["TOLLWIRE_POSTGRES_DSN"]
    assert "TOLLWIRE_POSTGRES_DSN" not in launches["simulator"].environ
    health_ports = [launch.health_port for launch in launches.values()]
    assert len(set(health_ports)) == len(NAMES)
    for launch in launches.values():
        assert launch.environ["TOLLWIRE_HEALTH_PORT"] == str(launch.health_port)


def test_several_of_a_service_share_its_port_and_have_their_own_names(home):
    launches = planned(home, "api=2")
    assert {"api-1", "api-2"} <= launches.keys()
    first, second = launches["api-1"], launches["api-2"]
    assert first.environ["TOLLWIRE_PORT"] == second.environ["TOLLWIRE_PORT"]
    assert first.environ["TOLLWIRE_REUSE_PORT"] == "true"
    assert first.health_port != second.health_port
    assert launches["worker"].environ["TOLLWIRE_REUSE_PORT"] == "false"


def test_the_pools_of_all_processes_fit_into_postgres(home):
    launches = planned(home, "api=8,worker=8,dlr=4")
    pools = [int(launch.environ["TOLLWIRE_POSTGRES_POOL_MAX"]) for launch in launches.values()]
    assert sum(pools[1:]) < CONNECTIONS_MAX


def test_settings_of_the_pools_are_right_however_many_processes_there_are(home):
    scale = f"api={INSTANCES_MAX},worker={INSTANCES_MAX},dlr={INSTANCES_MAX}"
    for environ in ({}, {"TOLLWIRE_POSTGRES_POOL_MAX": "3"}):
        settings = load(Common, planned(home, scale, **environ)["api-1"].environ)
        assert settings.postgres_pool_min <= settings.postgres_pool_max <= 5
    own = planned(home, scale, TOLLWIRE_POSTGRES_POOL_MIN="2")["api-1"].environ
    assert load(Common, own).postgres_pool_min == 2


def test_real_servers_take_the_place_of_embedded_ones(home):
    dsn, own = "postgresql://u@db/x", "postgresql://tollwire_api@db/x"
    launches = planned(
        home,
        TOLLWIRE_POSTGRES_DSN=dsn,
        TOLLWIRE_API_POSTGRES_DSN=own,
        TOLLWIRE_NATS_URL="nats://n:4222",
        TOLLWIRE_VALKEY_URL="redis://v",
    )
    assert launches["worker"].environ["TOLLWIRE_POSTGRES_DSN"] == dsn
    assert launches["api"].environ["TOLLWIRE_POSTGRES_DSN"] == own
    assert not {"TOLLWIRE_NATS_URL", "TOLLWIRE_VALKEY_URL"} & launches["api"].environ.keys()
    assert not home.postgres.exists()


def test_the_simulator_posts_its_receipts_to_dlr(home):
    launches = planned(home)
    url = launches["simulator"].environ["TOLLWIRE_SIMULATOR_RECEIPT_URL"]
    assert url == f"http://127.0.0.1:{launches['dlr'].environ['TOLLWIRE_RECEIPTS_PORT']}/receipts/simulator"


def test_what_the_operator_says_about_pools_and_callbacks_stands(home):
    own = {"TOLLWIRE_POSTGRES_POOL_MAX": "7", "TOLLWIRE_CALLBACK_ALLOW_PRIVATE": "false"}
    assert own.items() <= planned(home, **own)["dlr"].environ.items()
    assert planned(home)["dlr"].environ["TOLLWIRE_CALLBACK_ALLOW_PRIVATE"] == "true"


def test_what_listens_on_an_address_of_its_own_is_asked_there(home):
    launches = planned(
        home,
        TOLLWIRE_HOST="192.0.2.10",
        TOLLWIRE_RECEIPTS_HOST="::1",
        TOLLWIRE_SIMULATOR_HOST="0.0.0.0",
        TOLLWIRE_HEALTH_HOST="::",
    )
    asked = {name: launches[name].address for name in ("api", "dlr", "simulator")}
    assert asked == {"api": "192.0.2.10", "dlr": "::1", "simulator": "127.0.0.1"}
    assert {launch.health_address for launch in launches.values()} == {"::1"}
    receipts = launches["simulator"].environ["TOLLWIRE_SIMULATOR_RECEIPT_URL"]
    assert receipts == f"http://[::1]:{launches['dlr'].port}/receipts/simulator"


def test_valkey_can_be_left_out(home):
    launches = planned(home, TOLLWIRE_VALKEY_URL="none")
    assert launches["api"].environ["TOLLWIRE_VALKEY_URL"] == ""


def test_files_and_folders_are_those_of_the_folder_that_it_was_started_in(home, tmp_path, monkeypatch):
    """Each service runs in a folder of its own, which `down --clean` removes."""
    monkeypatch.chdir(tmp_path)
    launches = planned(
        home,
        TOLLWIRE_ARCHIVE_FOLDER="archive",
        TOLLWIRE_SEALS_FOLDER="/srv/seals",
        TOLLWIRE_SIMULATOR_RULES="rules.json",
        TOLLWIRE_NATS_URL="nats://n:4222",
        TOLLWIRE_NATS_CA_FILE="ca.pem",
        TOLLWIRE_NATS_TOKEN_FILE="../token",
        TOLLWIRE_NATS_KEY_FILE="",
    )
    ledger = launches["ledger"].environ
    assert ledger["TOLLWIRE_ARCHIVE_FOLDER"] == str(tmp_path / "archive")
    assert ledger["TOLLWIRE_SEALS_FOLDER"] == "/srv/seals"
    assert launches["simulator"].environ["TOLLWIRE_SIMULATOR_RULES"] == str(tmp_path / "rules.json")
    worker = launches["worker"].environ
    assert worker["TOLLWIRE_NATS_CA_FILE"] == str(tmp_path / "ca.pem")
    assert worker["TOLLWIRE_NATS_TOKEN_FILE"] == f"{tmp_path}/../token"
    assert "TOLLWIRE_NATS_KEY_FILE" not in worker


def test_the_archive_and_the_seals_are_in_the_home_unless_told_otherwise(home):
    ledger = planned(home)["ledger"].environ
    assert ledger["TOLLWIRE_ARCHIVE_FOLDER"] == str(home.path / "archive")
    assert ledger["TOLLWIRE_SEALS_FOLDER"] == str(home.path / "seals")


def test_programs_of_postgres_in_a_folder_beside_are_found_from_everywhere(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environ = {"TOLLWIRE_POSTGRES_BIN": "pg/bin"}
    postgres = Servers(home, PortChoice({}, environ), environ).postgres
    assert postgres is not None
    assert postgres._programs_folder == tmp_path / "pg" / "bin"


@pytest.mark.parametrize(("said", "told"), [("5368709120", 5 * 2**30), ("", 0), ("much", 0)])
def test_nats_is_told_what_the_streams_may_fill(home, said, told):
    environ = {"TOLLWIRE_NATS_STORE_BYTES": said}
    nats = Servers(home, PortChoice({}, environ), environ).nats
    assert nats is not None
    assert nats._store_bytes == max(STORE_BYTES_MIN, told + STORE_BYTES_AIR)
