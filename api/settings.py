"""What the API can be told."""

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from shared.runtime.gcra import Quota
from shared.runtime.postgres_dsn import check_dsn
from shared.runtime.server_settings import Common
from shared.runtime.settings import SECRET, Host, Port

# Of the pool, for reads, replays and operators: however many of them there are, messages are accepted.
# Group commit needs few connections, so the larger share is for days on which the database is slow.
OTHERS_SHARE: Final = 1 / 3
# Two at least, so that one client's reads do not have them all (api/places.py); accepting keeps two as well.
OTHERS_LEAST: Final = 2


class ApiSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-api``; those of callback URLs are ``CallbackUrlSettings``, shared with dlr."""

    postgres_read_dsn: Annotated[
        str,
        Meta(
            pattern=r"^(postgres(ql)?://.*)?$",
            description="A replica for lists, statements and balances, in the API's role; nothing is decided "
            "by it. Empty: the primary answers them.",
            extra=SECRET | {"check": check_dsn},
            examples=["postgresql://tollwire_api:secret@replica:5432/tollwire"],
        ),
    ] = ""
    postgres_read_lag_max_seconds: Annotated[
        float,
        Meta(ge=0.1, le=600, description="A replica that is further behind is not asked; the primary is."),
    ] = 5.0
    host: Annotated[Host, Meta(description="Address that the API listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of the API. 0: any free one.")] = 8080
    reuse_port: Annotated[
        bool, Meta(description="Let several API processes of one machine share the port.")
    ] = False
    address_requests_per_minute: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Limit of each address, before its key is looked at.")
    ] = 600_000
    address_requests_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests of one address that may come at once.")
    ] = 20_000
    total_requests_per_minute: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="Limit of one process over all, before keys are looked at."),
    ] = 1_200_000
    total_requests_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests over all that may come at once.")
    ] = 40_000
    access_log_ratio: Annotated[
        float, Meta(ge=0, le=1, description="Share of requests that leave a line in the log; 0: none.")
    ] = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.postgres_read_dsn:
            msgspec.structs.force_setattr(self, "postgres_read_dsn", self.complete(self.postgres_read_dsn))


class PoolShare(NamedTuple):
    """A part of the connections."""

    postgres_dsn: str
    postgres_pool_min: int
    postgres_pool_max: int


def split_pool(settings: ApiSettings) -> tuple[PoolShare, PoolShare]:
    """The connections that accept messages and know keys, and those of everything else.

    Together they are as many as the setting says, and one more where it says 1.
    """
    dsn, whole_max = settings.postgres_dsn, settings.postgres_pool_max
    others_max = max(1, min(OTHERS_LEAST, whole_max // 2), int(whole_max * OTHERS_SHARE))
    hot_max = max(1, whole_max - others_max)
    hot = PoolShare(dsn, min(settings.postgres_pool_min, hot_max), hot_max)
    return hot, PoolShare(dsn, 0, others_max)


def address_quota(settings: ApiSettings) -> Quota:
    """The limit of each address."""
    return Quota(settings.address_requests_per_minute, settings.address_requests_burst)


def total_quota(settings: ApiSettings) -> Quota:
    """The limit of this process over all."""
    return Quota(settings.total_requests_per_minute, settings.total_requests_burst)
