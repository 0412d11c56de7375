"""From claims to submissions: their texts are sealed until then."""

from collections.abc import Sequence
from typing import Final

import structlog

from shared.domain.alphabet import Encoding
from shared.domain.submission import Submission
from shared.runtime.keyring import Keyring, SealBroken
from shared.storage.config import CarrierConfig
from worker.carriers.base import Outcome, Throttled
from worker.lines import AWAY_SECONDS
from worker.store import Claimed

# Uses up no try: the keyring is the operator's affair, and while keys are rotated a worker may not have the
# newest yet. Looked at again after this, then twice as long each time.
TEXT_UNREADABLE: Final = "text_unreadable"
TEXT_AGAIN_SECONDS: Final = 5.0
SHUT_TEXT: Final = Throttled(TEXT_AGAIN_SECONDS)
SHUT_DETAIL: Final = "the key that sealed the text is not in the keyring"
# A test message that was accepted for a simulator whose row names another carrier by now: never that one.
NOT_FOR_TESTS: Final = Throttled(AWAY_SECONDS)

_ENCODINGS: Final = {encoding.value: encoding for encoding in Encoding}

_log = structlog.get_logger(__name__)


def open_texts(
    keyring: Keyring, carrier: CarrierConfig, won: Sequence[Claimed], asked_at: float
) -> tuple[list[Claimed], list[Submission], list[tuple[Claimed, Outcome]]]:
    """Open the texts: what may be submitted, the submissions, and what may not with the reason.

    ``asked_at``: when the claim was asked for, by the clock that goes on in a suspend.
    """
    readable, submissions = [], []
    kept: list[tuple[Claimed, Outcome]] = []
    for claimed in won:
        if claimed.claim.is_test and not carrier.is_simulator:
            kept.append((claimed, NOT_FOR_TESTS))
            continue
        try:
            submissions.append(_submission(keyring, carrier, claimed, asked_at))
            readable.append(claimed)
        except SealBroken:
            _log.error("text cannot be opened", message_id=str(claimed.message_id))
            kept.append((claimed, SHUT_TEXT))
    return readable, submissions, kept


def _submission(keyring: Keyring, carrier: CarrierConfig, claimed: Claimed, asked_at: float) -> Submission:
    claim, deadline_seconds = claimed.claim, carrier.submit_deadline_seconds
    return Submission(
        message_id=claimed.message_id,
        attempt_no=claim.attempt_no,
        part_no=1,
        msisdn=claim.msisdn,
        sender=claim.sender,
        text=keyring.unseal(claim.text_sealed, claimed.message_id.bytes).decode(),
        encoding=_ENCODINGS[claim.encoding],
        segments=claim.segments,
        # Told by the claim, which came a moment after it was asked for: never more than there is.
        valid_for_seconds=claim.valid_seconds,
        half_seconds=deadline_seconds / 2,
        deadline_seconds=deadline_seconds,
        asked_at=asked_at,
    )
