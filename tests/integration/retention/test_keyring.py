"""A key is followed by another: secrets are sealed anew, and the old key goes when nothing needs it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.home import Home, ProcessState, State
from cli.keyring import keyring as command
from ledger.reseal import Reseal, Uses, key_uses
from shared.runtime.keyring import Keyring
from shared.storage.callback_endpoints import callback_secret_aad
from shared.storage.carriers import carrier_secret_aad
from tests.support.flow import Flow, open_flow
from tests.support.servers import Database


@pytest.fixture
async def flow(database: Database) -> AsyncIterator[Flow]:
    async with open_flow(database) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keyring of a home in which nothing runs."""
    home = Home(tmp_path / "home")
    home.make()
    monkeypatch.setenv("TOLLWIRE_HOME", str(home.path))
    monkeypatch.delenv("TOLLWIRE_KEYRING_FILE", raising=False)
    Keyring.generate(home.keyring)
    return home.keyring


async def run(*args: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, command, args)
    return result.exit_code, result.stdout, result.stderr


async def secrets(flow: Flow, keys: Keyring) -> tuple[int, int]:
    """A carrier and an endpoint with secrets, sealed with the active key."""
    carrier = await flow.carrier()
    await flow.pool.execute(
        "update tollwire.carriers set secret_sealed = $2 where id = $1",
        carrier, keys.seal(b"the carrier's", carrier_secret_aad(carrier)),
    )  # fmt: skip
    endpoint = await flow.endpoint(await flow.client())
    for _ in range(3):
        sealed = keys.seal(b"the endpoint's", callback_secret_aad(endpoint))
        await flow.insert("tollwire.callback_secrets", endpoint_id=endpoint, sealed=sealed)
    return carrier, endpoint


async def test_secrets_are_sealed_anew_and_open_to_the_same(database, flow, file, monkeypatch):
    monkeypatch.setattr("ledger.reseal.CHUNK_ROWS", 2)
    old = Keyring.load(file)
    carrier, endpoint = await secrets(flow, old)
    assert (await run("rotate"))[0] == 0
    new = Keyring.load(file)
    assert new.key_ids == (old.active, new.active)
    assert new.active.startswith("k2-")
    version = await flow.pool.fetchval("select version + callbacks from tollwire.config_version")
    async with open_flow(database, "ledger") as ledger:
        assert await Reseal(ledger.pool, file).run_once() == 4
        assert await Reseal(ledger.pool, file).run_once() == 0
    only_new = Keyring(new.active, {new.active: new.key()})
    sealed = await flow.pool.fetchval("select secret_sealed from tollwire.carriers where id = $1", carrier)
    assert only_new.unseal(sealed, carrier_secret_aad(carrier)) == b"the carrier's"
    for (sealed,) in await flow.pool.fetch("select sealed from tollwire.callback_secrets"):
        assert only_new.unseal(sealed, callback_secret_aad(endpoint)) == b"the endpoint's"
    # Every process loads its carriers and endpoints anew.
    assert await flow.pool.fetchval("select version + callbacks from tollwire.config_version") > version


async def test_a_secret_that_does_not_open_is_left_and_the_others_are_not_held_up(database, flow, file):
    _, endpoint = await secrets(flow, Keyring.load(file))
    stranger = Keyring("k9", {"k9": bytes(32)}).seal(b"lost", callback_secret_aad(endpoint))
    await flow.insert("tollwire.callback_secrets", endpoint_id=endpoint, sealed=stranger)
    await run("rotate")
    async with open_flow(database, "ledger") as ledger:
        assert await Reseal(ledger.pool, file).run_once() == 4
        assert await Reseal(ledger.pool, file).run_once() == 0
    assert (
        await flow.pool.fetchval("select count(*) from tollwire.callback_secrets where sealed = $1", stranger)
        == 1
    )


async def test_a_key_may_go_when_nothing_needs_it(database, flow, file):
    keys = Keyring.load(file)
    await secrets(flow, keys)
    await flow.accepted(await flow.client(), text_sealed=keys.seal(b"text", b""))
    await run("rotate")
    old, new = keys.active, Keyring.load(file).active
    dsn = database.dsn("ledger")
    first = json.loads((await run("status", "--json", "--dsn", dsn))[1])
    assert first == [
        {"key": old, "carriers": 1, "callback_secrets": 3, "texts": 1, "seals": 0, "verdict": "is needed"},
        {"key": new, "carriers": 0, "callback_secrets": 0, "texts": 0, "seals": 0, "verdict": "is active"},
    ]
    code, _, err = await run("remove", old, "--dsn", dsn)
    assert (code, f"{old}: is needed." in err) == (1, True)

    async with open_flow(database, "ledger") as ledger:
        await Reseal(ledger.pool, file).run_once()
    await flow.pool.execute("delete from tollwire.message_texts")
    assert "may be removed" in (await run("status", "--dsn", dsn))[1]
    assert (await run("remove", new, "--dsn", dsn))[0] == 1
    assert (await run("remove", old, "--dsn", dsn))[0] == 0
    assert Keyring.load(file).key_ids == (new,)


async def test_while_services_run_a_key_is_added_first_and_active_later(file, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere.json"
    first = Keyring.generate(elsewhere).active
    named = ("--keyring", str(elsewhere))
    assert (await run("rotate", "--finish", *named))[0] == 1
    assert (await run("rotate", *named))[0] == 0
    added = Keyring.load(elsewhere)
    assert (added.active, added.key_ids[0], len(added.key_ids)) == (first, first, 2)
    code, _, err = await run("rotate", *named)
    assert (code, "waits" in err) == (1, True)
    assert (await run("rotate", "--finish", *named))[0] == 0
    assert Keyring.load(elsewhere).active == added.key_ids[1]
    assert (await run("rotate", "--keyring", str(tmp_path / "none")))[0] == 2


async def test_the_removal_of_a_key_says_which_one_waits(database, file, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    first = Keyring.generate(elsewhere).active
    for words in (["rotate"], ["rotate", "--finish"], ["rotate"]):
        assert (await run(*words, "--keyring", str(elsewhere)))[0] == 0
    _, active, waiting = Keyring.load(elsewhere).key_ids
    named = ("--keyring", str(elsewhere), "--dsn", database.dsn("ledger"))
    code, out, _ = await run("remove", first, "--json", *named)
    assert (code, json.loads(out)) == (0, {"active": active, "waiting": waiting, "keys": [active, waiting]})


@pytest.mark.parametrize("home", ["home", "none"])
async def test_of_a_keyring_outside_the_home_nobody_knows_that_its_services_are_down(
    file, tmp_path, monkeypatch, home
):
    """On servers of one's own and in Kubernetes the variable names a file, and no instance is there."""
    elsewhere = tmp_path / "elsewhere.json"
    first = Keyring.generate(elsewhere).active
    monkeypatch.setenv("TOLLWIRE_KEYRING_FILE", str(elsewhere))
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path / home))
    code, out, err = await run("rotate")
    assert (code, Keyring.load(elsewhere).active) == (0, first)
    assert "Restart the services" in out + err


async def test_a_keyring_beside_services_that_no_instance_runs_is_rotated_in_two_steps(tmp_path, monkeypatch):
    """A folder that `tollwire up` did not make says nothing about what runs."""
    monkeypatch.setenv("TOLLWIRE_HOME", str(tmp_path))
    monkeypatch.delenv("TOLLWIRE_KEYRING_FILE", raising=False)
    first = Keyring.generate(tmp_path / "keyring.json").active
    assert (await run("rotate"))[0] == 0
    assert Keyring.load(tmp_path / "keyring.json").active == first


async def test_no_key_goes_with_which_a_running_service_still_seals(database, flow, file):
    """A service seals with the key that was active when it started, and its next text needs that key."""
    home = Home(file.parent)
    first = Keyring.load(file).active
    await run("rotate")
    second = Keyring.load(file).active
    await run("rotate")
    pid_file = runs_an_api(home)
    dsn = database.dsn("ledger")
    with home.lock:
        start(pid_file, file, after=-1)
        code, _, err = await run("remove", first, "--dsn", dsn)
        assert (code, first in Keyring.load(file).key_ids) == (1, True)
        assert "A service may still seal with it." in err
        assert "Started before the keyring was written last: api." in err
        # One that was restarted seals with the active key, however many old ones go.
        start(pid_file, file, after=1)
        for key in (first, second):
            assert (await run("remove", key, "--dsn", dsn))[0] == 0
    assert len(Keyring.load(file).key_ids) == 1


async def test_what_happens_while_a_keys_uses_are_counted_loses_no_key(database, flow, file, monkeypatch):
    home = Home(file.parent)
    old = Keyring.load(file).active
    await run("rotate")
    pid_file = runs_an_api(home)
    start(pid_file, file, after=-1)

    async def restarted_meanwhile(*args: Any) -> Uses:
        counted = await key_uses(*args)
        start(pid_file, file, after=1)  # what it sealed with the old key by then was not counted
        return counted

    monkeypatch.setattr("cli.keyring.key_uses", restarted_meanwhile)
    dsn = database.dsn("ledger")
    with home.lock:
        code, _, err = await run("remove", old, "--dsn", dsn)
    assert (code, old in Keyring.load(file).key_ids) == (1, True)
    assert "A service may still seal with it." in err


async def test_a_key_that_is_added_while_anothers_uses_are_counted_stays(database, flow, file, monkeypatch):
    old = Keyring.load(file).active
    await run("rotate")

    async def rotated_meanwhile(*args: Any) -> Uses:
        counted = await key_uses(*args)
        Keyring.load(file).with_new_key().save(file)
        return counted

    monkeypatch.setattr("cli.keyring.key_uses", rotated_meanwhile)
    assert (await run("remove", old, "--dsn", database.dsn("ledger")))[0] == 0
    left = Keyring.load(file).key_ids
    assert (len(left), old in left) == (2, False)


def runs_an_api(home: Home) -> Path:
    """Have the home say that it runs one; return that one's pid file."""
    api = ProcessState(name="api", pid=None, port=None, health_port=1, restarts=0, state="running")
    home.write_state(State(phase="running", processes=[api]))
    pid_file = home.run / "api" / "api.pid"
    pid_file.parent.mkdir()
    pid_file.touch()
    return pid_file


def start(pid_file: Path, keyring: Path, *, after: int) -> None:
    """Make a process one that was started so many milliseconds after the keyring was written."""
    at = keyring.stat().st_mtime_ns + after * 1_000_000
    os.utime(pid_file, ns=(at, at))


async def test_a_key_that_there_is_not_is_not_said_to_be_needed(database, file):
    code, _, err = await run("remove", "foo", "--dsn", database.dsn("ledger"))
    assert (code, "foo: is not in the keyring." in err) == (1, True)
