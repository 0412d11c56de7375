"""The keyring: what it seals opens with the same associated data and nothing else."""

import base64
import json
import os
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.runtime.keyring import Keyring, KeyringError, SealBroken

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
ROW = b"messages:0193"


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(json.dumps(content))
    path.chmod(mode)
    return path


def in_base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_a_sealed_value_opens_for_its_own_row_only() -> None:
    keyring = Keyring("k1", {"k1": ONE})
    sealed = keyring.seal(b"Your code is 123456", ROW)
    assert b"123456" not in sealed
    assert keyring.unseal(sealed, ROW) == b"Your code is 123456"
    failures = REGISTRY.get_sample_value("tollwire_unseal_failures_total") or 0
    with pytest.raises(SealBroken, match="another row"):
        keyring.unseal(sealed, b"messages:0194")
    assert REGISTRY.get_sample_value("tollwire_unseal_failures_total") == failures + 1


def test_a_sealed_value_names_its_version_and_its_key() -> None:
    sealed = Keyring("k1", {"k1": ONE}).seal(b"text", ROW)
    assert sealed[:4] == b"\x01\x02k1"
    assert len(sealed) == 4 + 12 + len(b"text") + 16


def test_the_same_text_is_sealed_differently_each_time() -> None:
    keyring = Keyring("k1", {"k1": ONE})
    assert keyring.seal(b"same", ROW) != keyring.seal(b"same", ROW)


def test_after_a_rotation_old_values_open_and_new_ones_use_the_new_key() -> None:
    old = Keyring("k1", {"k1": ONE})
    sealed = old.seal(b"text", ROW)
    rotated = old.with_new_key()
    assert rotated.key_ids == ("k1", rotated.active)
    assert re.fullmatch(r"k2-[0-9a-f]{6}", rotated.active)
    assert rotated.with_new_key().active.startswith("k3-")
    assert rotated.unseal(sealed, ROW) == b"text"
    with pytest.raises(SealBroken, match="not in the keyring"):
        old.unseal(rotated.seal(b"text", ROW), ROW)


def test_any_changed_byte_breaks_the_seal() -> None:
    keyring = Keyring("k1", {"k1": ONE, "k2": TWO})
    sealed = keyring.seal(b"text", ROW)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            keyring.unseal(bytes(changed), ROW)


@pytest.mark.parametrize("length", range(36))
def test_any_cut_breaks_the_seal(length: int) -> None:
    keyring = Keyring("k1", {"k1": ONE})
    with pytest.raises(SealBroken):
        keyring.unseal(keyring.seal(b"text", ROW)[:length], ROW)


def test_a_generated_file_is_private_and_loads_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    made = Keyring.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keyring.load(path).unseal(made.seal(b"text", ROW), ROW) == b"text"


def test_what_two_keyrings_sealed_opens_with_the_keys_of_both_in_one(tmp_path: Path) -> None:
    """One was made while the other was away: brought back, none of the two halves is lost."""
    one, other = (Keyring.generate(tmp_path / f"{name}.json") for name in ("one", "other"))
    both = Keyring(one.active, {keyring.active: keyring.key() for keyring in (one, other)})
    assert both.unseal(one.seal(b"first", ROW), ROW) == b"first"
    assert both.unseal(other.seal(b"second", ROW), ROW) == b"second"


def test_a_saved_file_is_private_even_over_the_leftover_of_a_crash(tmp_path: Path) -> None:
    (tmp_path / "keyring.json.new").touch(mode=0o644)
    Keyring.generate(tmp_path / "keyring.json")
    assert (tmp_path / "keyring.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "keyring.json.new").exists()


def test_a_keyring_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    Keyring.generate(path)
    before = path.read_bytes()
    with pytest.raises(KeyringError, match="never overwritten"):
        Keyring.generate(path)
    assert path.read_bytes() == before


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    content = {"active": "k1", "keys": {"k1": in_base64(ONE)}}
    path = write(tmp_path / "keyring.json", content, mode=0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.load(path)


def test_what_root_mounts_for_us_may_be_read_by_our_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes mounts a Secret so: root's, and the pod's fsGroup may read it."""
    content = {"active": "k1", "keys": {"k1": in_base64(ONE)}}
    path = write(tmp_path / "keyring.json", content, mode=0o440)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert Keyring.load(path).active == "k1"
    for mode in (0o444, 0o460):
        path.chmod(mode)
        with pytest.raises(KeyringError, match="chmod 600"):
            Keyring.load(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"active": "k2", "keys": {"k1": in_base64(ONE)}}, "active key 'k2' is not among"),
        ({"active": "k1", "keys": {"k1": in_base64(b"short")}}, "k1 has 5 bytes; 32 are needed"),
        ({"active": "k1", "keys": {"k1": "not base64!"}}, "right is"),
        ({"active": "k1", "keys": {"": in_base64(ONE), "k1": in_base64(ONE)}}, "a key id is 1 to 32"),
        ({"active": "k1"}, "right is"),
        ({"active": "k1", "keys": {}, "more": 1}, "right is"),
        ([], "right is"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_what_would_be_right(
    tmp_path: Path, content: object, complaint: str
) -> None:
    with pytest.raises(KeyringError, match=complaint):
        Keyring.load(write(tmp_path / "keyring.json", content))


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="TOLLWIRE_KEYRING_FILE"):
        Keyring.load(tmp_path / "nowhere.json")
    with pytest.raises(KeyringError, match="cannot be read"):
        Keyring.load(tmp_path)


def test_a_keyring_shows_no_key_when_printed() -> None:
    assert repr(Keyring("k1", {"k1": ONE})) == "Keyring(active='k1', keys=['k1'])"


def test_other_secrets_are_derived_from_a_named_key() -> None:
    keyring = Keyring("k2", {"k1": ONE, "k2": TWO})
    assert (keyring.key(), keyring.key("k1")) == (TWO, ONE)
