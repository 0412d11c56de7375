"""What the sealed secret of a carrier holds: one text for everything, or a named text for each use.

The column `secret_sealed` of a carrier opens to bytes. Either they are the secret itself, or a JSON
object of texts such as ``{"submit": "…", "receipts": "…"}``, for a carrier that wants one secret for
our submits and signs its receipts with another.
"""

import msgspec

# The use that `$secret` in a header or in the body means.
SUBMIT_SECRET = "submit"  # noqa: S105 - the name of a use, not a secret
# The use that authenticates a carrier's receipts.
RECEIPTS_SECRET = "receipts"  # noqa: S105 - the name of a use, not a secret


class CarrierSecretMissing(ValueError):  # noqa: N818 - named for what happened
    """The carrier's settings ask for a secret that was not stored for it."""


def named_secret(opened: bytes | None, use: str) -> str:
    """Return the secret for a use, from what the sealed secret opened to.

    Raises:
        CarrierSecretMissing: there is none, or the object has no text under that name.
    """
    if not opened:
        raise CarrierSecretMissing(f"the carrier has no secret; its settings ask for the one named {use!r}")
    secrets = _as_object(opened)
    found = opened.decode() if secrets is None else secrets.get(use, "")
    if not found:
        raise CarrierSecretMissing(f"the carrier's secret has no text named {use!r}")
    return found


def _as_object(opened: bytes) -> dict[str, str] | None:
    if not opened.lstrip().startswith(b"{"):
        return None
    try:
        return msgspec.json.decode(opened, type=dict[str, str])
    except msgspec.MsgspecError:
        return None  # a plain secret may well begin with a brace
