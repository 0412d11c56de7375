"""TLS and credentials to PostgreSQL: what is right gets in, what is wrong names the setting that mends it."""

import asyncio
from pathlib import Path

import pytest

from embedded.postgres import PostgresServer
from shared.runtime.postgres import open_pool
from shared.runtime.server_settings import Common
from shared.runtime.settings import SettingsError, load
from tests.support.certificates import Authority
from tests.support.hints import first_hint
from tests.support.tls_door import open_door


def told(port: int, postgres: PostgresServer, **settings: object) -> Common:
    secret = settings.pop("password", postgres.secret("postgres"))
    values = {
        "POSTGRES_DSN": f"postgresql://postgres@127.0.0.1:{port}/{settings.pop('database', 'postgres')}",
        "POSTGRES_PASSWORD": secret,
        "POSTGRES_POOL_MIN": 0,
        "KEYRING_FILE": "none",
        **{name.upper(): value for name, value in settings.items()},
    }
    return load(Common, {f"TOLLWIRE_{name}": str(value) for name, value in values.items()})


async def enter(settings: Common) -> str:
    async with open_pool(settings, application_name="test") as pool:
        return str(await pool.fetchval("select current_user"))


async def refused(settings: Common) -> str:
    with pytest.raises(SettingsError) as caught:
        await enter(settings)
    return str(caught.value)


async def test_the_right_authority_is_believed_and_the_connection_is_encrypted(
    postgres: PostgresServer, authority: Authority
) -> None:
    context = authority.server("127.0.0.1")
    async with open_door(postgres.port, context, is_postgres=True) as (door, port):
        assert await enter(told(port, postgres, postgres_ca_file=authority.ca_file)) == "postgres"
        assert door.entered == 1


async def test_a_certificate_of_somebody_else_is_refused(
    postgres: PostgresServer, authority: Authority, stranger: Authority
) -> None:
    async with open_door(postgres.port, stranger.server("127.0.0.1"), is_postgres=True) as (door, port):
        assert "TOLLWIRE_POSTGRES_CA_FILE" in await refused(
            told(port, postgres, postgres_ca_file=authority.ca_file)
        )
        assert "TOLLWIRE_POSTGRES_CA_FILE" in await refused(told(port, postgres, postgres_tls="verify-full"))
        assert door.entered == 0  # so no password was sent


async def test_an_expired_certificate_is_called_so(postgres: PostgresServer, authority: Authority) -> None:
    context = authority.server("127.0.0.1", valid_days=-1)
    async with open_door(postgres.port, context, is_postgres=True) as (_, port):
        fault = await refused(told(port, postgres, postgres_ca_file=authority.ca_file))
    assert fault == "PostgreSQL: the server's certificate has expired: it must be renewed"


async def test_a_certificate_for_another_name_passes_only_without_a_look_at_names(
    postgres: PostgresServer, authority: Authority
) -> None:
    context = authority.server("db.example.com")
    async with open_door(postgres.port, context, is_postgres=True) as (_, port):
        fault = await refused(told(port, postgres, postgres_ca_file=authority.ca_file))
        assert "TOLLWIRE_POSTGRES_TLS=verify-ca" in fault
        settings = told(port, postgres, postgres_ca_file=authority.ca_file, postgres_tls="verify-ca")
        assert await enter(settings) == "postgres"


async def test_a_server_that_wants_our_certificate_gets_it(
    postgres: PostgresServer, authority: Authority
) -> None:
    context = authority.server("127.0.0.1", wants_certificate=True)
    cert, key = authority.issue("tollwire-api")
    async with open_door(postgres.port, context, is_postgres=True) as (_, port):
        settings = told(
            port,
            postgres,
            postgres_ca_file=authority.ca_file,
            postgres_cert_file=cert,
            postgres_key_file=key,
        )
        assert await enter(settings) == "postgres"
        # With TLS 1.3 a server refuses when our side is done already, and a door cannot say why.
        without = told(port, postgres, postgres_ca_file=authority.ca_file)
        with first_hint() as hint:
            entering = asyncio.create_task(enter(without))
            assert "TOLLWIRE_POSTGRES_CERT_FILE" in await asyncio.wait_for(hint, 20)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering


async def test_a_server_without_tls_gets_no_password(postgres: PostgresServer, authority: Authority) -> None:
    fault = await refused(told(postgres.port, postgres, postgres_ca_file=authority.ca_file))
    assert "PostgreSQL does not speak TLS" in fault
    assert "TOLLWIRE_POSTGRES_TLS=disable" in fault


async def test_wrong_credentials_name_their_settings(postgres: PostgresServer) -> None:
    fault = await refused(told(postgres.port, postgres, password="wrong-word"))
    assert "TOLLWIRE_POSTGRES_PASSWORD" in fault
    assert "wrong-word" not in fault
    fault = await refused(told(postgres.port, postgres, database="nowhere"))
    assert "no such database" in fault


async def test_secrets_come_from_mounted_files(postgres: PostgresServer, tmp_path: Path) -> None:
    dsn, password = tmp_path / "dsn", tmp_path / "password"
    dsn.write_text(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres\n")
    password.write_text(postgres.secret("postgres") + "\n")
    settings = load(
        Common,
        {
            "TOLLWIRE_POSTGRES_DSN_FILE": str(dsn),
            "TOLLWIRE_POSTGRES_PASSWORD_FILE": str(password),
            "TOLLWIRE_KEYRING_FILE": "none",
        },
    )
    assert await enter(settings) == "postgres"
