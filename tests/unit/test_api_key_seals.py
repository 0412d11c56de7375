"""A key that was verified once is known again after a restart, and nothing else is."""

import asyncio
from dataclasses import replace

import bcrypt
import pytest

from api.authenticate import Authenticator
from api.callers import KeyRecord
from api.key_seals import KeySeals
from api.key_uses import KeyUses
from api.problems import Refusal
from api.verify import KEY_FAILURES, Verifier
from shared.domain.api_keys import ApiKey, format_api_key
from shared.runtime.keyring import Keyring
from tests.unit.test_api_authenticate import (
    HOME,
    Rows,
    gone,
    guess_from_everywhere,
    guesses_at,
    key_of,
    record_of,
    refused,
)

KEYRING = Keyring("k1", {"k1": bytes(32)})


class Noted(KeyUses):
    """Keeps what would be written."""

    def __init__(self) -> None:
        self.seals: dict[str, bytes] = {}

    def note_seal(self, key_id: str, seal: bytes) -> None:
        self.seals[key_id] = seal


async def sealed(key: ApiKey, keyring: Keyring = KEYRING) -> KeyRecord:
    """The record of a key that a process before this one has verified."""
    noted, record = Noted(), record_of(key)
    authenticator = Authenticator(Rows(record).load, seals=KeySeals(keyring, noted))
    await authenticator.authenticate(format_api_key(key), HOME)
    return replace(record, seal=noted.seals[key.key_id])


def refuse_bcrypt(*_: bytes) -> bool:
    raise AssertionError("bcrypt was asked")


async def test_a_verified_key_needs_no_bcrypt_in_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(1)
    record = await sealed(key)
    monkeypatch.setattr(bcrypt, "checkpw", refuse_bcrypt)
    authenticator = Authenticator(Rows(record).load, seals=KeySeals(KEYRING, Noted()))
    assert (await authenticator.authenticate(format_api_key(key), HOME)).key_id == key.key_id


async def test_a_sealed_key_is_let_in_at_once_while_somebody_guesses_at_it() -> None:
    """No limit of its id is asked before the seal, so that nobody's guesses can keep its owner out."""
    key = key_of(1)
    verifier = Verifier(slow_pause_seconds=3_600.0)
    authenticator = Authenticator(
        Rows(await sealed(key)).load, seals=KeySeals(KEYRING, Noted()), verifier=verifier
    )
    await guess_from_everywhere(authenticator, key, KEY_FAILURES.burst)
    waiting = [asyncio.create_task(refused(authenticator, guess)) for guess in guesses_at(key, 23)[20:]]
    assert (await authenticator.authenticate(format_api_key(key), "198.51.100.1")).key_id == key.key_id
    for guess in waiting:
        assert not guess.done()
        await gone(guess)


async def test_a_seal_opens_no_other_secret() -> None:
    key = key_of(1)
    record = await sealed(key)
    other = replace(key_of(2), key_id=key.key_id)
    authenticator = Authenticator(Rows(record).load, seals=KeySeals(KEYRING, Noted()))
    with pytest.raises(Refusal):
        await authenticator.authenticate(format_api_key(other), HOME)


async def test_a_seal_ends_with_the_hash_that_it_was_made_of() -> None:
    key = key_of(1)
    record = replace(await sealed(key), secret_hash=record_of(key_of(2)).secret_hash)
    authenticator = Authenticator(Rows(record).load, seals=KeySeals(KEYRING, Noted()))
    with pytest.raises(Refusal):
        await authenticator.authenticate(format_api_key(key), HOME)


@pytest.mark.parametrize(
    "seal", [None, b"", b"\x02k1", b"\xff", b"\x02k9" + bytes(32), b"\x02k1" + bytes(32)]
)
async def test_without_a_seal_of_ours_bcrypt_decides_and_a_new_one_is_kept(seal: bytes | None) -> None:
    key = key_of(1)
    noted = Noted()
    authenticator = Authenticator(
        Rows(replace(record_of(key), seal=seal)).load, seals=KeySeals(KEYRING, noted)
    )
    await authenticator.authenticate(format_api_key(key), HOME)
    assert list(noted.seals) == [key.key_id]


async def test_a_seal_of_an_older_key_of_the_keyring_still_fits() -> None:
    key = key_of(1)
    record = await sealed(key)
    seals = KeySeals(KEYRING.with_new_key(), Noted())
    assert seals.fits(record.seal, key, record.secret_hash)


async def test_a_seal_that_was_noted_while_a_write_failed_is_written_the_next_time() -> None:
    written: list[tuple[list[str], list[bytes | None]]] = []

    class FailsOnce:
        async def execute(
            self, _: str, key_ids: list[str], _at: object, seals: list[bytes | None], **__: float
        ) -> None:
            written.append((key_ids, seals))
            if len(written) == 1:
                uses.note_seal("used", b"new")
                uses.note("sealed")
                raise ConnectionResetError

    uses = KeyUses(FailsOnce())  # type: ignore[arg-type]  # all that is called of a pool
    uses.note("used")
    uses.note_seal("sealed", b"old")
    with pytest.raises(ConnectionResetError):
        await uses.write()
    await uses.write()
    assert dict(zip(*written[1], strict=True)) == {"used": b"new", "sealed": b"old"}
