"""How a client of ours signs in to NATS: token, user and password, NKey or credentials file, over TLS.

An NKey is an Ed25519 key in NATS's own spelling: base32 of a prefix, the key and a checksum
(docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth). The files are read
again for each connection, so a secret or certificate that was renewed is used by the next one.
"""

import base64
import binascii
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from shared.runtime import settings
from shared.runtime.tls import client_context, tls_hint

if TYPE_CHECKING:
    from shared.runtime.server_settings import NatsAccess

PREFIX: Final = f"{settings.PREFIX}NATS"
_USER_BYTE: Final = 20 << 3
_SEED_BYTE: Final = 18 << 3
# Two bytes of prefix, 32 of key, two of checksum.
_SEED_BYTES: Final = 36
_JWT: Final = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED: Final = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+")


class NotEncrypted(nats.errors.Error):
    """The server does not speak TLS, and we were told to."""


class BadNKey(nats.errors.Error, ValueError):  # noqa: N818 - named for what it is
    """No seed of a user's NKey.

    An error of NATS, since nats-py tries again after no other: a file that is being written is whole soon.
    """


class NKey:
    """A user's NKey, from its seed.

    Raises:
        BadNKey: it is none.
    """

    def __init__(self, seed: str) -> None:
        try:
            raw = base64.b32decode(seed.strip() + "=" * (-len(seed.strip()) % 8))
        except ValueError:  # binascii.Error is one, too
            raise BadNKey("it is not base32") from None
        if len(raw) != _SEED_BYTES or crc16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            raise BadNKey("its length or checksum is wrong")
        # The prefixes are five bits long: S, then U, over two bytes.
        if raw[0] & 0xF8 != _SEED_BYTE or (raw[0] & 7) << 5 | raw[1] >> 3 != _USER_BYTE:
            raise BadNKey("it is not the seed of a user (SU…)")
        self._key = Ed25519PrivateKey.from_private_bytes(raw[2:-2])

    @property
    def public(self) -> str:
        """The public key as the server's configuration has it: ``U…``."""
        body = bytes([_USER_BYTE]) + self._key.public_key().public_bytes_raw()
        return base64.b32encode(body + crc16(body).to_bytes(2, "little")).decode().rstrip("=")

    def sign(self, nonce: str) -> bytes:
        """Sign the server's challenge, as it wants it in CONNECT."""
        return base64.urlsafe_b64encode(self._key.sign(nonce.encode())).rstrip(b"=")


def crc16(body: bytes) -> int:
    """CRC-16/XMODEM, the checksum of NKeys."""
    return binascii.crc_hqx(body, 0)


def read_creds(path: str) -> tuple[str, NKey]:
    """Return the JWT and the key of a credentials file.

    Raises:
        BadNKey: there is none in it.
        OSError: it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise BadNKey("it has no USER JWT and USER NKEY SEED")
    return jwt.group(1), NKey(seed.group(1))


def login_faults(nkey_file: str, creds_file: str) -> list[str]:
    """Return what is wrong with the files, a line for each, with the setting's name."""
    faults = []
    for name, path in (("NKEY_FILE", nkey_file), ("CREDS_FILE", creds_file)):
        try:
            if path and name == "NKEY_FILE":
                NKey(Path(path).read_text(encoding="utf-8", errors="replace"))
            elif path:
                read_creds(path)
        except (OSError, BadNKey) as error:
            reason = getattr(error, "strerror", None) or error
            faults.append(f"{PREFIX}_{name}: {path!r} cannot be used: {reason}")
    return faults


class NatsClient(Client):
    """nats-py's client, which signs in by our settings and shows nothing to a server without TLS."""

    def __init__(self, access: "NatsAccess") -> None:
        super().__init__()
        self._access = access
        self._wants_tls = access.nats_wants_tls

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """How the server's certificate is looked at; made anew for each connection."""
        return client_context(self._access.nats_tls, self._access.nats_files)

    def login(self) -> dict[str, Any]:
        """What ``connect`` is told of how to sign in."""
        access = self._access
        if access.nats_creds_file:
            return {"user_jwt_cb": self._jwt, "signature_cb": self._sign_by_creds}
        if access.nats_nkey_file:
            return {"signature_cb": self._sign_by_nkey}
        return {
            "token": access.nats_token or None,
            "user": access.nats_user or None,
            "password": access.nats_password or None,
        }

    @property
    def is_lost(self) -> bool:
        """True when there is no connection and nothing of nats-py works on one any more.

        Its reconnection ends for good by an error that it does not expect. To be asked after ``connect``.
        """
        reconnecting = self._reconnection_task
        return not self.is_connected and (reconnecting is None or reconnecting.done())

    @property
    def failure(self) -> Exception | None:
        """The error that ended the reconnection, if one did."""
        reconnecting = self._reconnection_task
        if reconnecting is None or not reconnecting.done() or reconnecting.cancelled():
            return None
        error = reconnecting.exception()
        return error if isinstance(error, Exception) else None

    def hang_up(self) -> None:
        """Give the socket up at once; nats-py leaves it open when a connect fails or is cancelled.

        An abort: to close would wait until a peer that may be gone has taken every byte.
        """
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            with suppress(AttributeError):  # asyncio's TLS until Python 3.11.3, when it is closed already
                writer.transport.abort()

    async def _connect_to_server(self, s: Any) -> None:
        # What the last try left open, or there is one more with each try of a server that says nothing.
        self.hang_up()
        await super()._connect_to_server(s)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if self._reconnection_task is None and not self.is_connected:
            # The first connect failed. After a TLS handshake that failed nobody says that the socket is
            # closed, and nats-py would wait for it without an end instead of trying again.
            self.hang_up()
            self._transport = None
        await super()._close(status, do_cbs)

    async def _process_op_err(self, e: Exception) -> None:
        # nats-py closes and waits until that is done before it says a word or looks at another server;
        # with bytes waiting for a silent peer that is never, or until the kernel gives up after minutes.
        if not (self.is_closed or self.is_reconnecting):
            self.hang_up()
        await super()._process_op_err(e)

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: ARG002 - nats-py's signature
        """Wake the flusher, and never wait for it.

        nats-py waits, without an end and deaf to a cancellation, when much is pending or when the flusher
        has been woken often already. A ping that waits there never finds out that the peer is silent. How
        much may be pending is for who publishes to limit.
        """
        if self._flush_queue is None or self._flush_queue.full():
            return None
        return await super()._flush_pending()

    def _jwt(self) -> bytes:
        return read_creds(self._access.nats_creds_file)[0].encode()

    def _sign_by_creds(self, nonce: str) -> bytes:
        return read_creds(self._access.nats_creds_file)[1].sign(nonce)

    def _sign_by_nkey(self, nonce: str) -> bytes:
        key = NKey(Path(self._access.nats_nkey_file).read_text(encoding="utf-8", errors="replace"))
        self._public_nkey = key.public  # nats-py sends it beside the signature
        return key.sign(nonce)

    def _connect_command(self) -> bytes:
        # nats-py goes over to TLS only when the server asks for it, whatever the URL says; who sits in
        # between would only have to leave that out to be shown the password.
        if self._wants_tls and not self._server_info.get("tls_required"):
            raise NotEncrypted("the server does not speak TLS")
        return super()._connect_command()


def nats_hint(error: BaseException) -> str | None:
    """Say what an operator does about an error, by the settings' names; None: nothing is set wrongly."""
    if isinstance(error, NotEncrypted):
        return f"{PREFIX}_URL, {PREFIX}_TLS or {PREFIX}_CA_FILE ask for TLS: set it up on the server, too"
    if hint := tls_hint(error, PREFIX):
        return hint
    if isinstance(error, BadNKey):
        return f"{PREFIX}_NKEY_FILE or {PREFIX}_CREDS_FILE cannot be used: {error}"
    text = str(error).lower()
    if "authorization" in text or "authentication" in text:
        return (
            f"the server refuses the login: {PREFIX}_TOKEN, {PREFIX}_USER and {PREFIX}_PASSWORD, "
            f"{PREFIX}_NKEY_FILE or {PREFIX}_CREDS_FILE"
        )
    if "permissions violation" in text:
        return "the NATS user may not do this: docs/operations.md names what each service needs"
    return None
