"""What dlr can be told."""

from typing import Annotated

from msgspec import Meta

from shared.runtime.server_settings import Common
from shared.runtime.settings import Host, Port


class DlrSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-dlr``; those of posting callbacks are ``dlr.poster.CallbackSettings``."""

    receipts_host: Annotated[Host, Meta(description="Address that takes carriers' receipts.")] = "127.0.0.1"
    receipts_port: Annotated[Port, Meta(description="Port of POST /receipts/<carrier>. 0: any free one.")] = (
        8081
    )
    reuse_port: Annotated[bool, Meta(description="Let several processes listen on the same port.")] = False
