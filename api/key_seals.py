"""What spares a verified API key its next bcrypt: a mark that only our keyring can make (ADR 0015)."""

import hmac
from hashlib import blake2b
from typing import Final

from api.key_uses import KeyUses
from shared.domain.api_keys import ApiKey
from shared.runtime.keyring import Keyring

SEAL_BYTES: Final = 32
_PURPOSE: Final = b"tollwire api key"


class KeySeals:
    """Makes seals of verified keys, has them kept, and recognises them after a restart.

    Layout: 1 byte length of the keyring's key id, that id, and a keyed hash over the API key's id, its
    secret and its bcrypt hash. A seal of a keyring key that is gone, or of a hash that was replaced, fits
    nothing; then bcrypt decides.
    """

    def __init__(self, keyring: Keyring, uses: KeyUses) -> None:
        self._keys = {name.encode(): keyring.key(name) for name in keyring.key_ids}
        self._active = keyring.active.encode()
        self._uses = uses

    def keep(self, key: ApiKey, secret_hash: bytes) -> None:
        """Have the seal of a key that bcrypt has verified written with the key's next use."""
        self._uses.note_seal(key.key_id, self._seal(self._active, key, secret_hash))

    def fits(self, seal: bytes | None, key: ApiKey, secret_hash: bytes) -> bool:
        """Return whether this seal was made of this very key; constant time for what is secret."""
        if not seal:
            return False
        name = seal[1 : 1 + seal[0]]
        return name in self._keys and hmac.compare_digest(seal, self._seal(name, key, secret_hash))

    def _seal(self, name: bytes, key: ApiKey, secret_hash: bytes) -> bytes:
        said = b"\0".join((key.key_id.encode(), key.secret.encode(), secret_hash))
        mark = blake2b(said, key=self._keys[name], person=_PURPOSE, digest_size=SEAL_BYTES).digest()
        return bytes([len(name)]) + name + mark
