"""Seals texts and secrets at rest: AES-256-GCM with a key id and associated data (DESIGN 10).

Layout of a sealed value: 1 byte version, 1 byte length of the key id, the key id, 12 bytes nonce,
ciphertext and 16 bytes tag. The associated data binds it to its row: moved to another, it does not open.
"""

import base64
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Counter

from shared.runtime.randomness import Randomness

VERSION: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
KEY_ID_LENGTH_MAX: Final = 32
FILE_MODE: Final = 0o600
# Of a key id, behind its number: the keys of two keyrings must fit into one, to open what both sealed.
KEY_ID_RANDOM_BYTES: Final = 3

SHUT: Final = Counter(
    "tollwire_unseal_failures_total", "Tries to open a sealed value that no key of the keyring opens"
)

_NUMBERED: Final = re.compile(r"k(\d{1,9})(?:-|$)", re.ASCII)


class KeyringError(Exception):
    """The keyring file cannot be used as it is; the text says what would be right."""


class KeyringAccessError(KeyringError):
    """The file may be read by others, or not by us; what is in it was not judged."""


class SealBroken(ValueError):  # noqa: N818 - named for what happened
    """The value does not open: its key is not in the keyring, it was changed, or it is of another row."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    active: str
    keys: dict[str, str]


class Keyring:
    """Some keys, one of which seals; all of them open."""

    def __init__(self, active: str, keys: Mapping[str, bytes]) -> None:
        if active not in keys:
            raise KeyringError(f"the active key {active!r} is not among the keys")
        for name, key in keys.items():
            if not (0 < len(name) <= KEY_ID_LENGTH_MAX and name.isascii()):
                raise KeyringError(f"a key id is 1 to {KEY_ID_LENGTH_MAX} ASCII characters, not {name!r}")
            if len(key) != KEY_BYTES:
                raise KeyringError(f"key {name} has {len(key)} bytes; {KEY_BYTES} are needed")
        self.active = active
        self._raw = dict(keys)
        self._randomness = Randomness()
        self._ciphers = {name.encode(): AESGCM(key) for name, key in keys.items()}
        self._head = bytes([VERSION, len(active)]) + active.encode()
        self._active = self._ciphers[active.encode()]

    def __repr__(self) -> str:
        """Show the key ids, never a key."""
        return f"Keyring(active={self.active!r}, keys={sorted(self._raw)})"

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, the active one among them."""
        return tuple(self._raw)

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        """Seal with the active key. ``aad`` is not stored; the same is needed to open."""
        nonce = self._randomness.take(NONCE_BYTES)
        return self._head + nonce + self._active.encrypt(nonce, plain, aad)

    def unseal(self, sealed: bytes, aad: bytes) -> bytes:
        """Open a sealed value.

        Raises:
            SealBroken: it does not open.
        """
        try:
            return self._open(sealed, aad)
        except SealBroken:
            SHUT.inc()
            raise

    def _open(self, sealed: bytes, aad: bytes) -> bytes:
        if len(sealed) < 2 or sealed[0] != VERSION:
            raise SealBroken("this is no sealed value of version 1")
        end = 2 + sealed[1]
        cipher = self._ciphers.get(sealed[2:end])
        if cipher is None:
            raise SealBroken("the key that sealed this is not in the keyring")
        try:
            return cipher.decrypt(sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :], aad)
        except (InvalidTag, ValueError):
            raise SealBroken("the value was changed, or belongs to another row") from None

    def key(self, key_id: str | None = None) -> bytes:
        """The bytes of a key (the active one), to derive keys of other uses from."""
        return self._raw[key_id or self.active]

    def with_new_key(self) -> Self:
        """Return a keyring with one more key, which is the active one."""
        numbers = [int(found[1]) for found in map(_NUMBERED.match, self._raw) if found]
        name = _key_id(1 + max(numbers, default=0))
        return type(self)(name, {**self._raw, name: secrets.token_bytes(KEY_BYTES)})

    def save(self, path: Path) -> None:
        """Write the file anew, readable by its owner only, all or nothing; root leaves it to who has it."""
        keys = {name: base64.b64encode(key).decode() for name, key in self._raw.items()}
        text = msgspec.json.format(msgspec.json.encode(_File(self.active, keys)), indent=2)
        beside = path.with_name(path.name + ".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, FILE_MODE)  # a leftover of a crash keeps the mode it had
            if os.geteuid() == 0 and path.exists():
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    @classmethod
    def generate(cls, path: Path | str) -> Self:
        """Make a keyring of one new key and save it.

        Raises:
            KeyringError: the file is there already; a lost key is lost data.
        """
        if Path(path).exists():
            raise KeyringError(f"{path} is there already; it is never overwritten")
        name = _key_id(1)
        keyring = cls(name, {name: secrets.token_bytes(KEY_BYTES)})
        keyring.save(Path(path))
        return keyring

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a keyring file.

        Raises:
            KeyringError: it is missing, readable by others, or not as it must be.
        """
        path = Path(path)
        try:
            found_file = path.stat()
            found = msgspec.json.decode(path.read_bytes(), type=_File)
            keys = {name: base64.b64decode(text, validate=True) for name, text in found.keys.items()}
        except FileNotFoundError:
            raise KeyringError(f"{path} is missing; TOLLWIRE_KEYRING_FILE names the keyring") from None
        except PermissionError as error:
            raise KeyringAccessError(f"{path} cannot be read: {error.strerror}") from None
        except OSError as error:
            raise KeyringError(f"{path} cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise KeyringError(
                f'{path}: {error}; right is {{"active": "k1", "keys": {{"k1": "<base64>"}}}}'
            ) from None
        mode = found_file.st_mode & 0o777
        # What root mounts for us, as Kubernetes does with a Secret, is read by our group: PostgreSQL's rule.
        allowed = 0o700 if found_file.st_uid == os.geteuid() else 0o740
        if mode & ~allowed:
            raise KeyringAccessError(f"{path} can be read by others (mode {mode:o}); run chmod 600 on it")
        return cls(found.active, keys)


def _key_id(number: int) -> str:
    return f"k{number}-{secrets.token_hex(KEY_ID_RANDOM_BYTES)}"
