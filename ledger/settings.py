"""What the ledger process can be told."""

from typing import Annotated

from msgspec import Meta

from shared.runtime.server_settings import Common
from shared.runtime.settings import Folder


class LedgerSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-ledger``."""

    turn_seconds: Annotated[
        float, Meta(ge=0.05, le=60, description="How often the outbox is looked at for what is due.")
    ] = 0.5
    expire_holds_seconds: Annotated[
        float, Meta(ge=1, le=3600, description="How often holds without a receipt are looked for.")
    ] = 10.0
    verify_seconds: Annotated[
        float, Meta(ge=1, le=86400, description="How often the next step of verification is taken.")
    ] = 2.0
    seals_folder: Annotated[
        Folder,
        Meta(description="Folder for seals of closed days, a file a day. Empty: only the database has them."),
    ] = ""
