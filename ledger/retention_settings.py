"""How long what is kept (RULES 28, 29)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.runtime.settings import Folder


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the upkeep, read by the ledger process beside its own.

    The lower bounds are those of the server's functions: a message lives 30 days when it was scheduled that
    far ahead, and a receipt matches a reference for 7 days and waits for it for 3.
    """

    archive_enabled: Annotated[
        bool,
        Meta(description="Write days to the archive before they are dropped. false: drop them unarchived."),
    ] = True
    archive_folder: Annotated[
        Folder,
        Meta(description="Folder of the archive. Without one nothing is archived, so nothing is dropped."),
    ] = ""
    archive_after_days: Annotated[
        int,
        Meta(ge=2, le=3650, description="Age at which a day of messages is archived, when all have ended."),
    ] = 30
    drop_after_days: Annotated[
        int, Meta(ge=30, le=3650, description="Age at which an archived day of messages is dropped.")
    ] = 90
    entries_days: Annotated[
        int,
        Meta(ge=60, le=3650, description="Age at which a sealed day of the journal is archived and dropped."),
    ] = 400
    references_days: Annotated[
        int, Meta(ge=11, le=3650, description="Age at which carriers' references are dropped.")
    ] = 14

    def __post_init__(self) -> None:
        if not self.archive_after_days <= self.drop_after_days <= self.entries_days:
            raise ValueError(
                "TOLLWIRE_ARCHIVE_AFTER_DAYS, TOLLWIRE_DROP_AFTER_DAYS and TOLLWIRE_ENTRIES_DAYS must rise: "
                f"{self.archive_after_days}, {self.drop_after_days}, {self.entries_days} are wrong"
            )
