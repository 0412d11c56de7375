"""What operators change, as the API's role: once, in the audit trail, and with a new version."""

import secrets
from collections.abc import AsyncIterator

import asyncpg
import bcrypt
import pytest

from shared.domain.api_keys import RANDOM_BYTES, new_api_key
from shared.domain.rates import Rate
from shared.storage import api_keys, carriers, clients, credit, rates
from shared.storage.audit import Actor
from shared.storage.clients import ClientSettings
from tests.support.servers import Database

BY = Actor("tests", "192.0.2.7")


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn("api"))
    yield connection
    await connection.close()


@pytest.fixture
async def acme(conn: asyncpg.Connection) -> str:
    await clients.create_client(conn, "acme", "EUR", ClientSettings(), BY)
    return "acme"


async def trail(conn: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await conn.fetch("select action, target from tollwire.audit_trail order by id")
    return [tuple(row) for row in rows]


async def version(conn: asyncpg.Connection) -> int:
    return int(await conn.fetchval("select version from tollwire.config_version"))


async def test_a_new_client_has_an_empty_account_and_a_line_in_the_trail(conn):
    made = await clients.create_client(conn, "acme", "EUR", ClientSettings(messages_per_second=50), BY, "new")
    assert (made.name, made.currency, made.posted_micros, made.open_holds) == ("acme", "EUR", 0, 0)
    assert made.settings.messages_per_second == 50
    row = await conn.fetchrow("select * from tollwire.audit_trail")
    assert (row["actor"], str(row["address"]), row["reason"]) == ("tests", "192.0.2.7", "new")
    gap = await conn.fetchval("select dispatch_interval_us from ledger.accounts where id = $1", made.id)
    assert gap == 20_000


async def test_a_link_local_address_is_noted_without_its_zone(conn):
    await clients.create_client(conn, "acme", "EUR", ClientSettings(), Actor("tests", "fe80::1%eth0"))
    assert str(await conn.fetchval("select host(address) from tollwire.audit_trail")) == "fe80::1"


async def test_a_name_is_given_once_and_leaves_no_account_behind(conn, acme):
    with pytest.raises(clients.ClientNameTaken):
        await clients.create_client(conn, acme, "USD", ClientSettings(), BY)
    assert await conn.fetchval("select count(*) from ledger.accounts where kind = 'client'") == 1


async def test_a_change_keeps_what_it_does_not_name_and_paces_the_account(conn, acme):
    before = await version(conn)
    now = await clients.set_client(conn, acme, {"messages_per_second": 3, "suspended": True}, BY)
    assert now.settings == ClientSettings(messages_per_second=3, suspended=True)
    assert await version(conn) > before
    paced = "select dispatch_interval_us from ledger.accounts where kind = 'client'"
    assert await conn.fetchval(paced) == 333_333
    stored = await clients.client_account(conn, acme)
    assert stored.settings == now.settings


async def test_a_change_that_changes_nothing_is_not_noted(conn, acme):
    await clients.set_client(conn, acme, {"suspended": False}, BY)
    assert await trail(conn) == [("client.create", "client/acme")]


async def test_a_setting_out_of_its_range_changes_nothing(conn, acme):
    with pytest.raises(asyncpg.CheckViolationError):
        await clients.set_client(conn, acme, {"requests_per_minute": 0}, BY)
    assert (await clients.client_account(conn, acme)).settings == ClientSettings()


async def test_clients_are_listed_in_pages_by_name(conn):
    for name in ("c", "a", "b"):
        await clients.create_client(conn, name, "EUR", ClientSettings(), BY)
    first = await clients.list_clients(conn, limit=2)
    rest = await clients.list_clients(conn, after_name=first[-1].name, limit=2)
    assert [client.name for client in [*first, *rest]] == ["a", "b", "c"]


async def test_a_top_up_is_posted_once_for_each_reference(conn, acme):
    first = await credit.post_credit(conn, acme, "top_up", 5_000_000, "invoice-1", BY, "paid")
    again = await credit.post_credit(conn, acme, "top_up", 5_000_000, "invoice-1", BY, "paid")
    assert (first.is_replay, again.is_replay) == (False, True)
    assert first.available_micros == again.available_micros == 5_000_000
    assert (await trail(conn)).count(("credit.top_up", "client/acme")) == 1
    with pytest.raises(credit.ReferenceConflict):
        await credit.post_credit(conn, acme, "top_up", 6_000_000, "invoice-1", BY, None)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("top_up", 0), ("top_up", -2 * 10**18), ("adjustment", 0), ("credit_limit", -1)],
)
async def test_an_amount_that_makes_no_sense_is_refused(conn, acme, kind, amount):
    with pytest.raises(credit.ImpossibleAmount):
        await credit.post_credit(conn, acme, kind, amount, "nothing", BY, None)


@pytest.mark.parametrize("kind", ["top_up", "credit_limit", "adjustment"])
async def test_no_account_comes_near_the_end_of_its_numbers(conn, acme, kind):
    most = 10**18
    for amount in (2**63 - 1, most + 1):
        with pytest.raises(credit.AccountOutOfRange, match="1000000000000 at most"):
            await credit.post_credit(conn, acme, kind, amount, f"over-{amount}", BY, None)
    await credit.post_credit(conn, acme, kind, most, "most", BY, None)
    if kind != "credit_limit":
        with pytest.raises(credit.AccountOutOfRange):
            await credit.post_credit(conn, acme, "top_up", 1, "one more", BY, None)
    # What was done is done, whatever bounds are drawn later.
    assert (await credit.post_credit(conn, acme, kind, most, "most", BY, None)).is_replay
    await credit.post_credit(conn, acme, "adjustment", -most, "back", BY, None)


async def test_a_credit_limit_counts_as_available(conn, acme):
    posted = await credit.post_credit(conn, acme, "credit_limit", 2_000_000, "limit-1", BY, None)
    assert posted.available_micros == 2_000_000
    assert (await clients.client_account(conn, acme)).available_micros == 2_000_000


async def test_a_key_is_stored_as_a_hash_and_revoked_once(conn, acme):
    key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)
    new = api_keys.NewKey(acme, "ci", ["messages:send"], allowed_ips=["198.51.100.0/24"])
    made = await api_keys.create_key(conn, key, new, BY)
    assert (made.client, made.scopes, made.allowed_ips) == (acme, ["messages:send"], ["198.51.100.0/24"])
    stored = await conn.fetchval("select secret_hash from tollwire.api_keys")
    assert bcrypt.checkpw(key.secret.encode(), stored)
    first = await api_keys.revoke_key(conn, key.key_id, BY, "leaked")
    again = await api_keys.revoke_key(conn, key.key_id, BY, "leaked")
    assert first.revoked_at is not None
    assert first.revoked_at == again.revoked_at
    assert [key.key_id for key in await api_keys.list_keys(conn, acme, limit=10)] == [key.key_id]
    assert [action for action, _ in await trail(conn)] == ["client.create", "key.create", "key.revoke"]
    assert key.secret not in await conn.fetchval(
        "select string_agg(after::text, '') from tollwire.audit_trail"
    )


async def test_an_unknown_key_or_client_is_named(conn):
    with pytest.raises(api_keys.NoSuchKey):
        await api_keys.revoke_key(conn, "000000000000", BY)
    with pytest.raises(clients.NoSuchClient):
        await api_keys.list_keys(conn, "nobody", limit=1)


async def test_a_rate_is_followed_by_another_and_stays_readable(conn):
    await rates.set_rates(conn, None, [Rate("49", 75_000, "EUR"), Rate("33", 70_000, "EUR")], BY)
    first = await version(conn)
    changed = await rates.set_rates(conn, None, [Rate("49", 76_000, "EUR"), Rate("33", 70_000, "EUR")], BY)
    assert changed == 1
    sql = """select price_micros from tollwire.rates where prefix = '49'
             and since_version <= $1 and (until_version is null or until_version > $1)"""
    assert await conn.fetchval(sql, first) == 75_000
    assert await conn.fetchval(sql, await version(conn)) == 76_000
    live = await rates.list_rates(conn, None, limit=10)
    assert [(rate.prefix, rate.price_micros) for rate in live] == [("33", 70_000), ("49", 76_000)]


async def test_removed_rates_end_and_a_clients_own_stand_apart(conn, acme):
    await rates.set_rates(conn, None, [Rate("49", 75_000, "EUR")], BY)
    await rates.set_rates(conn, acme, [Rate("49", 60_000, "EUR")], BY)
    assert await rates.remove_rates(conn, None, "EUR", ["49", "1"], BY) == 1
    assert await rates.list_rates(conn, None, limit=10) == []
    assert [rate.client for rate in await rates.list_rates(conn, acme, prefix="4", limit=10)] == [acme]


async def test_rates_set_together_have_one_currency_and_different_prefixes(conn):
    with pytest.raises(ValueError, match="one currency"):
        await rates.set_rates(conn, None, [Rate("49", 1, "EUR"), Rate("33", 1, "USD")], BY)
    with pytest.raises(ValueError, match="different prefixes"):
        await rates.set_rates(conn, None, [Rate("49", 1, "EUR"), Rate("49", 2, "EUR")], BY)


async def test_a_carrier_keeps_its_secret_when_only_its_settings_change(conn):
    row = carriers.CarrierRow(name="alpha", kind="http", settings={"url": "http://a"})
    made = await carriers.put_carrier(conn, row, BY)
    await carriers.put_secret(conn, made, b"sealed", BY)
    moved = carriers.CarrierRow(name="alpha", kind="http", settings={"url": "http://b"}, window_max=5)
    stored = await carriers.put_carrier(conn, moved, BY)
    assert (stored.id, stored.row, stored.secret_sealed) == (made.id, moved, b"sealed")
    assert [carrier.row.name for carrier in await carriers.list_carriers(conn)] == ["alpha"]
    actions = [action for action, _ in await trail(conn)]
    assert actions == ["carrier.create", "carrier.new_secret", "carrier.set"]


async def test_a_carrier_that_stays_as_it_is_raises_no_version(conn):
    row = carriers.CarrierRow(name="alpha", kind="http", settings={"url": "http://a"})
    await carriers.put_carrier(conn, row, BY)
    before = await version(conn)
    await carriers.put_carrier(conn, row, BY)
    assert await version(conn) == before


async def test_routes_are_set_moved_and_removed(conn):
    for name in ("alpha", "beta"):
        row = carriers.CarrierRow(name=name, kind="http", settings={})
        await carriers.put_carrier(conn, row, BY)
    await carriers.put_route(conn, "", 1, "alpha", BY)
    await carriers.put_route(conn, "49", 1, "alpha", BY)
    await carriers.put_route(conn, "49", 1, "beta", BY)
    shown = [(route.prefix, route.carrier) for route in await carriers.list_routes(conn, limit=10)]
    assert shown == [("", "alpha"), ("49", "beta")]
    assert await carriers.remove_route(conn, "49", 1, BY)
    assert not await carriers.remove_route(conn, "49", 1, BY)
    with pytest.raises(carriers.NoSuchCarrier):
        await carriers.put_route(conn, "1", 1, "gamma", BY)
