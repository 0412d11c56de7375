"""What `tollwire up` makes in a fresh database, in the API's role, and what it leaves alone the next time."""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from cli.bootstrap import BY, Bootstrapped, bootstrap
from cli.home import Home
from cli.own_keyring import own_keyring
from embedded.unit import StartFailed
from shared.domain.api_keys import parse_api_key
from shared.domain.rates import Rate
from shared.runtime.keyring import Keyring
from shared.storage import api_keys, carriers, clients, rates
from shared.storage.config import load_rates
from tests.support.servers import Database
from worker.carriers.registry import make_carrier

MESSAGES = Path(__file__).parent.parent / "data" / "messages.csv"
Boot = Callable[..., Awaitable[Bootstrapped]]


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn("api"))
    yield connection
    await connection.close()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.generate(tmp_path / "keyring.json")


@pytest.fixture
def boot(database: Database, keyring: Keyring, tmp_path: Path) -> Boot:
    async def run(url: str = "http://127.0.0.1:1", secret: str = "shared", **more: bool) -> Bootstrapped:
        return await bootstrap(
            database.dsn("api"),
            keyring,
            simulator_url=url,
            receipt_secret=secret,
            home=Home(tmp_path),
            **more,
        )

    return run


async def test_the_demo_client_has_ten_thousand_and_keys_that_are_kept_in_the_home(conn, boot, tmp_path):
    made = await boot()
    demo = await clients.client_account(conn, "demo")
    assert (demo.currency, demo.available_micros) == ("EUR", 10_000_000_000)
    listed = await api_keys.key_listing(conn, parse_api_key(made.demo_key).key_id)
    assert (listed.client, "admin" in listed.scopes, len(listed.scopes)) == ("demo", False, 4)
    admin = await api_keys.key_listing(conn, parse_api_key(made.admin_key).key_id)
    assert (admin.client, admin.scopes) == (None, ["admin"])
    assert (tmp_path / "demo.key").read_text().strip() == made.demo_key
    assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600


async def test_running_it_again_changes_nothing(conn, boot):
    first = await boot()
    lines = await conn.fetchval("select count(*) from tollwire.audit_trail")
    version = await conn.fetchval("select version from tollwire.config_version")
    assert await boot() == first
    assert await conn.fetchval("select count(*) from tollwire.audit_trail") == lines
    assert await conn.fetchval("select version from tollwire.config_version") == version
    assert (await clients.client_account(conn, "demo")).posted_micros == 10_000_000_000


async def test_what_an_operator_changed_stays_changed(conn, boot):
    await boot()
    await clients.set_client(conn, "demo", {"suspended": True}, BY)
    await rates.set_rates(conn, None, [Rate("49", 1, "EUR")], BY)
    other = carriers.CarrierRow(name="alpha", kind="http", settings={})
    await carriers.put_carrier(conn, other, BY)
    await carriers.put_route(conn, "", 1, "alpha", BY)
    await boot()
    assert (await clients.client_account(conn, "demo")).settings.suspended
    german = await rates.list_rates(conn, None, prefix="49", limit=1)
    assert german[0].price_micros == 1
    assert [route.carrier for route in await carriers.list_routes(conn, limit=9)] == ["alpha"]


async def test_a_revoked_demo_key_is_followed_by_a_new_one(conn, boot):
    first = await boot()
    await api_keys.revoke_key(conn, parse_api_key(first.demo_key).key_id, BY)
    second = await boot()
    assert second.demo_key != first.demo_key
    assert second.admin_key == first.admin_key


async def test_what_was_done_for_the_demo_client_is_told_as_it_was(conn, boot, tmp_path):
    first = await boot()
    assert first.title == "Client demo, with 10,000.00 EUR of credit"
    assert (await boot()).title == "Client demo"
    (tmp_path / "demo.key").unlink()
    second = await boot()
    assert second.title == "Client demo, with a new key; the earlier one still works"
    for made in (first, second):
        await api_keys.revoke_key(conn, parse_api_key(made.demo_key).key_id, BY)
    assert (await boot()).title == "Client demo, with a new key"


async def test_a_key_that_was_written_but_not_stored_is_stored(conn, boot, database):
    made = await boot()
    key_id = parse_api_key(made.demo_key).key_id
    superuser = await asyncpg.connect(database.dsn())
    await superuser.execute("delete from tollwire.api_keys where key_id = $1", key_id)
    await superuser.close()
    assert (await boot()).demo_key == made.demo_key
    assert (await api_keys.key_listing(conn, key_id)).revoked_at is None


async def test_the_simulator_is_where_it_listens_now_and_its_secret_opens(conn, boot, keyring):
    await boot("http://127.0.0.1:1", "old")
    await boot("http://127.0.0.1:2", "new", recognises_repeated_ids=True)
    stored = await carriers.stored_carrier(conn, "simulator")
    assert stored.row.settings["url"] == "http://127.0.0.1:2/submit"
    assert stored.row.is_simulator
    assert stored.row.idempotent_submit
    assert stored.secret_sealed is not None
    secret = keyring.unseal(stored.secret_sealed, carriers.carrier_secret_aad(stored.id))
    assert secret == b"new"
    make_carrier(stored.row.kind, stored.row.name, stored.row.settings, secret)


async def test_a_secret_that_no_longer_opens_is_sealed_anew(conn, boot, database, tmp_path):
    await boot()
    (tmp_path / "other.json").unlink(missing_ok=True)
    other = Keyring.generate(tmp_path / "other.json")
    await bootstrap(
        database.dsn("api"),
        other,
        simulator_url="http://127.0.0.1:1",
        receipt_secret="shared",
        home=Home(tmp_path),
    )
    stored = await carriers.stored_carrier(conn, "simulator")
    assert stored.secret_sealed is not None
    assert other.unseal(stored.secret_sealed, carriers.carrier_secret_aad(stored.id)) == b"shared"


async def test_a_keyring_is_made_for_an_empty_database_and_never_for_one_that_has_its_own(
    boot, database, tmp_path
):
    """A name mistyped, a volume not mounted: what is sealed must not meet a keyring that opens none of it."""
    notes: list[str] = []
    file, dsn = tmp_path / "own.json", database.dsn("api")
    made = await own_keyring(file, dsn, notes.append)
    assert (await own_keyring(file, dsn, notes.append)).key_ids == made.key_ids
    file.unlink()
    await boot()
    with pytest.raises(StartFailed, match="and the database holds what one sealed"):
        await own_keyring(file, dsn, notes.append)
    assert (file.exists(), notes) == (False, [])

    Keyring.generate(file)  # what an operator does who lost it for good
    await own_keyring(file, dsn, notes.append)
    (said,) = notes
    assert said.partition("own.json ")[2] == (
        "does not open 1 of 1 secrets of carriers that were looked at: is it the keyring of this database? "
        "Put the right one back and start again, before new texts are sealed with this one."
    )


async def test_every_number_of_the_test_data_has_a_price(conn, boot):
    await boot()
    table = (await load_rates(conn, 1))[0, "EUR"]
    with MESSAGES.open(newline="", encoding="utf-8") as file:
        prices = [table.price(row["to"], 1).amount_micros for row in csv.DictReader(file)]
    assert len(prices) == 5_000
    assert min(prices) > 0
