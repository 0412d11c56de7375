"""What the API can be told."""

from typing import Annotated

from msgspec import Meta

from api.gcra import Quota
from shared.runtime.settings import Common, Port


class ApiSettings(Common, frozen=True, kw_only=True):
    """Settings of ``tollwire-api``; those of callback URLs are ``CallbackUrlSettings``, shared with dlr."""

    host: Annotated[str, Meta(description="Address that the API listens on.")] = "127.0.0.1"
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


def address_quota(settings: ApiSettings) -> Quota:
    """The limit of each address."""
    return Quota(settings.address_requests_per_minute, settings.address_requests_burst)


def total_quota(settings: ApiSettings) -> Quota:
    """The limit of this process over all."""
    return Quota(settings.total_requests_per_minute, settings.total_requests_burst)
