"""Points the client's callbacks at `tollwire listen`, and finds the secret that signs them."""

import ipaddress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from cli.api_client import Api
from cli.failures import Failure, Refused
from embedded.files import write_private

ENDPOINT: Final = "/v1/callback"
SECRET_FILE: Final = "callback.secret"  # noqa: S105 - a file's name


class _Kept(msgspec.Struct, frozen=True):
    secret_id: int
    secret: str


async def point_here(api: Api, url: str, home: Path) -> str:
    """Set the client's callback URL and return the secret, as ``whsec_…``.

    A secret is shown once, so it is kept in the home; when it is not the newest any more, it is rotated.
    An endpoint elsewhere is somebody's: it is left alone.

    Raises:
        Failure: callbacks go elsewhere already, or the API refuses.
    """
    before = await _endpoint(api)
    body: dict[str, Any] = {"url": url}
    if before is not None:
        if not _is_this_machine(before["url"]):
            raise Failure(
                f"The client's callbacks go to {before['url']}.",
                detail="That is not this machine, so it is left as it is.",
                hint="Give --secret to listen without changing it.",
            )
        # None are shown of an endpoint that has only what is offered no more: then it is told the usual ones.
        body |= {"events": before["events"] or None, "keep_answers": before["keep_answers"]}
    answer = await api.request("PUT", ENDPOINT, body, may_repeat=True)
    made = answer.plain()
    if made["secret"] is not None:
        return _keep(home, made["secrets"], made["secret"])
    kept = _read(home)
    if kept is not None and made["secrets"] and made["secrets"][0]["id"] == kept.secret_id:
        return kept.secret
    rotated = (await api.request("POST", f"{ENDPOINT}/rotate", {"grace_seconds": 0})).plain()
    after = await _endpoint(api)
    return _keep(home, after["secrets"] if after else [], rotated["secret"])


async def _endpoint(api: Api) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = (await api.get(ENDPOINT)).plain()
    except Refused as refusal:
        if refusal.problem.code == "not_found":
            return None
        raise
    return found


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keep(home: Path, secrets: list[dict[str, Any]], secret: str) -> str:
    if secrets and home.is_dir():
        kept = _Kept(secrets[0]["id"], secret)
        write_private(home / SECRET_FILE, msgspec.json.encode(kept).decode())
    return secret


def _read(home: Path) -> _Kept | None:
    try:
        return msgspec.json.decode((home / SECRET_FILE).read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None
