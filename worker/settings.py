"""What the worker can be told."""

from typing import Annotated, Final, get_args

from msgspec import Meta

from shared.events.bundles import Lane
from shared.runtime.server_settings import Common
from shared.runtime.settings import PREFIX

LANES: Final[tuple[Lane, ...]] = get_args(Lane)


class WorkerSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-worker``."""

    lanes: Annotated[
        tuple[Lane, ...],
        Meta(
            min_length=1,
            description="Lanes that this worker serves; a worker may be kept for express alone.",
            extra={"right": f"lanes out of {', '.join(LANES)}, each once, separated by commas"},
        ),
    ] = LANES

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.lanes)) < len(self.lanes):
            raise ValueError(f"{PREFIX}LANES: {','.join(self.lanes)!r} is wrong; it must name each lane once")
