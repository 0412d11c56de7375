"""What the worker can be told."""

from typing import Annotated

from msgspec import Meta

from shared.runtime.server_settings import Common


class WorkerSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-worker``."""

    lanes: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1, description="Lanes that this worker serves; a worker may be kept for express alone."
        ),
    ] = ("express", "normal", "bulk")
