"""What a verification of the books found."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be: the check's name, where, and a sentence that says what."""

    check: str
    sentence: str
    account_id: int | None = None
    message_id: UUID | None = None

    def __str__(self) -> str:
        place = ""
        if self.account_id is not None:
            place += f" account {self.account_id}"
        if self.message_id is not None:
            place += f" message {self.message_id}"
        return f"{self.check}:{place}{':' if place else ''} {self.sentence}"
