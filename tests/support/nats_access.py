"""A NATS with TLS or with users, and the keys and credentials that belong to them."""

import base64
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from embedded.files import write_private
from embedded.nats import NatsServer
from shared.runtime.nats_login import crc16

SEED, OPERATOR, ACCOUNT, USER = 18 << 3, 14 << 3, 0, 20 << 3


class GuardedNats(NatsServer):
    """A NATS whose ``authorization`` block is another one, with more lines behind it."""

    def __init__(self, folder: Path, *lines: str) -> None:
        super().__init__(folder)
        self._lines = lines

    def prepare(self) -> None:
        """Write its configuration."""
        super().prepare()
        file = self.folder / "nats.conf"
        kept = [line for line in file.read_text().splitlines() if not line.startswith("authorization")]
        write_private(file, "\n".join([*kept, *self._lines, ""]))


class Key:
    """An NKey of an operator, account or user."""

    def __init__(self, kind: int) -> None:
        raw = secrets.token_bytes(32)
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = _spelled(bytes([kind]) + self._key.public_key().public_bytes_raw())
        self.seed = _spelled(bytes([SEED | kind >> 5, (kind & 31) << 3]) + raw)

    def jwt(self, subject: str, name: str, **claims: Any) -> str:
        """A JWT of NATS (version 2) that this key signs."""
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {"version": 2, **claims},
        }
        body["jti"] = (
            base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        )
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(_url(json.dumps(part).encode()) for part in (head, body))
        return f"{text}.{_url(self._key.sign(text.encode()))}"


def _spelled(body: bytes) -> str:
    return base64.b32encode(body + crc16(body).to_bytes(2, "little")).decode().rstrip("=")


def _url(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def credentials(folder: Path) -> tuple[list[str], Path]:
    """The lines of a server that believes an operator's JWTs, and a user's credentials file for it."""
    operator, account, system, user = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT), Key(USER)
    unlimited = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1}
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    of_account = operator.jwt(account.public, "app", type="account", limits={**unlimited, **storage})
    of_system = operator.jwt(system.public, "system", type="account", limits=unlimited)
    file = folder / "app.creds"
    file.write_text(
        "-----BEGIN NATS USER JWT-----\n"
        + account.jwt(user.public, "tollwire", type="user", subs=-1, data=-1, payload=-1)
        + "\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n"
        + user.seed
        + "\n------END USER NKEY SEED------\n"
    )
    lines = [
        f"operator: {operator.jwt(operator.public, 'test', type='operator')}",
        f"system_account: {system.public}",
        "resolver: MEMORY",
        f'resolver_preload: {{ {account.public}: "{of_account}", {system.public}: "{of_system}" }}',
    ]
    return lines, file
