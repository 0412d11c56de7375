"""TLS and credentials to NATS: what is right gets in, what is wrong names the setting that mends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import StoreCompression

from embedded.nats import NatsServer
from embedded.unit import running
from shared.runtime.jetstream import JetStream, open_jetstream
from shared.runtime.server_settings import NatsAccess
from shared.runtime.settings import SettingsError, load
from tests.support.certificates import Authority
from tests.support.hints import first_hint
from tests.support.nats_access import USER, GuardedNats, Key, credentials
from tests.support.nats_door import NatsDoor

WAIT_SECONDS = 20.0


def told(server: NatsServer, **settings: object) -> NatsAccess:
    values = {"nats_url": server.url, "nats_store_bytes": 256 * 2**20, **settings}
    return load(NatsAccess, {f"TOLLWIRE_{name.upper()}": str(value) for name, value in values.items()})


@asynccontextmanager
async def entered(access: NatsAccess) -> AsyncIterator[JetStream]:
    async with open_jetstream(access) as jetstream:
        assert await jetstream.wait_connected(WAIT_SECONDS)
        await jetstream.ensure_streams()
        yield jetstream


async def refused(access: NatsAccess) -> str:
    """The hint that is logged while NATS does not let us in."""
    with first_hint() as hint:
        async with asyncio.timeout(WAIT_SECONDS), open_jetstream(access) as jetstream:
            told_so = await hint
            assert not jetstream.connected
    return told_so


def tls(files: tuple[Path, Path], more: str = "") -> str:
    return f'tls {{ cert_file: "{files[0]}", key_file: "{files[1]}"\n {more} }}'


async def test_tls_with_the_right_authority_and_nobody_elses(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    async with running(GuardedNats(tmp_path / "nats", tls(authority.issue("127.0.0.1")))) as server:
        async with entered(told(server, nats_ca_file=authority.ca_file)) as jetstream:
            await jetstream.publish("sms.dlq", b"{}", message_id="1")
        assert "TOLLWIRE_NATS_CA_FILE" in await refused(told(server, nats_ca_file=stranger.ca_file))
        assert "TOLLWIRE_NATS_CA_FILE" in await refused(told(server))  # the server asks for TLS by itself


async def test_an_expired_certificate_is_called_so(tmp_path: Path, authority: Authority) -> None:
    lines = tls(authority.issue("127.0.0.1", valid_days=-1))
    async with running(GuardedNats(tmp_path / "nats", lines)) as server:
        assert "has expired" in await refused(told(server, nats_ca_file=authority.ca_file))


async def test_a_certificate_for_another_name_passes_only_without_a_look_at_names(
    tmp_path: Path, authority: Authority
) -> None:
    async with running(GuardedNats(tmp_path / "nats", tls(authority.issue("nats.example.com")))) as server:
        assert "TOLLWIRE_NATS_TLS=verify-ca" in await refused(told(server, nats_ca_file=authority.ca_file))
        async with entered(told(server, nats_ca_file=authority.ca_file, nats_tls="verify-ca")):
            pass


async def test_a_server_that_wants_our_certificate_gets_it(tmp_path: Path, authority: Authority) -> None:
    lines = tls(authority.issue("127.0.0.1"), f'ca_file: "{authority.ca_file}"\n verify: true')
    cert, key = authority.issue("tollwire-worker")
    async with running(GuardedNats(tmp_path / "nats", lines)) as server:
        files = {"nats_cert_file": cert, "nats_key_file": key}
        async with entered(told(server, nats_ca_file=authority.ca_file, **files)):
            pass
        assert "TOLLWIRE_NATS_CERT_FILE" in await refused(told(server, nats_ca_file=authority.ca_file))


async def test_a_server_without_tls_is_shown_no_password(tmp_path: Path) -> None:
    lines = 'authorization { user: "tollwire", password: "word" }'
    async with running(GuardedNats(tmp_path / "nats", lines)) as server:
        wanted = server.url.replace("nats://", "tls://")
        hint = await refused(told(server, nats_url=wanted, nats_user="tollwire", nats_password="word"))
        assert "ask for TLS" in hint
        log = (server.folder / "nats.log").read_text()
        assert "authentication" not in log  # nobody tried


@pytest.mark.parametrize("way", ["password", "nkey", "creds"])
async def test_each_way_to_sign_in(tmp_path: Path, way: str) -> None:
    lines, right, wrong = _ways(tmp_path)[way]
    async with running(GuardedNats(tmp_path / "nats", *lines)) as server:
        async with entered(told(server, **right)):
            pass
        hint = await refused(told(server, **wrong))
        assert "TOLLWIRE_NATS_USER and TOLLWIRE_NATS_PASSWORD" in hint
        assert "TOLLWIRE_NATS_CREDS_FILE" in hint


def _ways(folder: Path) -> dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]]:
    """By its name: the server's lines, the settings that get in, and those that don't."""
    password, right, wrong = folder / "password", folder / "right.nk", folder / "wrong.nk"
    key = Key(USER)
    password.write_text("word\n")
    right.write_text(key.seed + "\n")
    wrong.write_text(Key(USER).seed + "\n")
    by_jwt, creds = credentials(folder)
    other = folder / "other"
    other.mkdir()
    _, others = credentials(other)
    return {
        "password": (
            ['authorization { user: "tollwire", password: "word" }'],
            {"nats_user": "tollwire", "nats_password_file": password},
            {"nats_user": "tollwire", "nats_password": "other"},
        ),
        "nkey": (
            [f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"],
            {"nats_nkey_file": right},
            {"nats_nkey_file": wrong},
        ),
        "creds": (by_jwt, {"nats_creds_file": creds}, {"nats_creds_file": others}),
    }


async def test_an_authority_that_is_renewed_is_believed_from_the_next_try_on(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(stranger.ca_file.read_bytes())
    async with running(GuardedNats(tmp_path / "nats", tls(authority.issue("127.0.0.1")))) as server:
        with first_hint() as hint:
            async with (
                asyncio.timeout(WAIT_SECONDS),
                open_jetstream(told(server, nats_ca_file=file)) as jetstream,
            ):
                assert "TOLLWIRE_NATS_CA_FILE" in await hint
                file.write_bytes(authority.ca_file.read_bytes())
                assert await jetstream.wait_connected(WAIT_SECONDS)


@pytest.mark.parametrize("way", ["nkey", "creds"])
@pytest.mark.parametrize("broken", [b"", b"\xff\xfe\x00"])
async def test_a_file_that_is_half_written_at_a_reconnect_is_read_again(
    tmp_path: Path, way: str, broken: bytes
) -> None:
    lines, right, _ = _ways(tmp_path)[way]
    (file,) = right.values()
    whole = file.read_bytes()
    async with (
        running(GuardedNats(tmp_path / "nats", *lines)) as server,
        NatsDoor(server.port).opened() as door,
        entered(told(server, nats_url=door.url, **right)) as jetstream,
    ):
        file.write_bytes(broken)
        with first_hint() as hint:
            await door.drop()
            async with asyncio.timeout(WAIT_SECONDS):
                assert "TOLLWIRE_NATS_NKEY_FILE or TOLLWIRE_NATS_CREDS_FILE" in await hint
        assert not jetstream.connected
        file.write_bytes(whole)
        assert await jetstream.wait_connected(WAIT_SECONDS)
        await jetstream.publish("sms.dlq", b"{}", message_id="1")


def test_a_file_that_is_no_key_is_named_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "key"
    seed = Key(USER).seed
    file.write_text(seed[:-1] + ("E" if seed[-1] == "A" else "A"))
    with pytest.raises(SettingsError, match=r"TOLLWIRE_NATS_NKEY_FILE: .* checksum is wrong"):
        load(NatsAccess, {"TOLLWIRE_NATS_NKEY_FILE": str(file)})
    with pytest.raises(SettingsError, match=r"TOLLWIRE_NATS_CREDS_FILE: .* has no USER JWT"):
        load(NatsAccess, {"TOLLWIRE_NATS_CREDS_FILE": str(file)})
    with pytest.raises(SettingsError, match="TOLLWIRE_NATS_TOKEN and TOLLWIRE_NATS_USER are set"):
        load(NatsAccess, {"TOLLWIRE_NATS_TOKEN": "a", "TOLLWIRE_NATS_USER": "b"})


@pytest.mark.parametrize("word", ["s2", "none"])
async def test_streams_are_compressed_when_told_and_again_not(nats_server: NatsServer, word: str) -> None:
    other = "none" if word == "s2" else "s2"
    for told_first in (other, word):
        access = told(nats_server, nats_token=nats_server.token, nats_compression=told_first)
        async with entered(access) as jetstream:
            await jetstream.publish("sms.dlq", b"{}", message_id=told_first)
    connection = await nats.connect(nats_server.url, token=nats_server.token)
    info = await connection.jetstream().stream_info("SMS_DLQ")
    await connection.close()
    assert info.config.compression == StoreCompression(word)
    assert info.state.messages == 2
