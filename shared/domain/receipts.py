"""A carrier's delivery receipts: from what it POSTs to what we mean by it.

Carriers say the same few facts with different names, words and dates. `ReceiptSettings` is the section
`receipts` of a carrier's settings: where each fact lies and what each word means. States as in SMPP 3.4
appendix B.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from shared.domain import receipt_fields as fields
from shared.domain.dotted_path import is_path, look_up, reader
from shared.domain.receipt_auth import ReceiptAuth
from shared.domain.receipt_fields import DoneAtFormat, MalformedReceipt

__all__ = [
    "DEFAULT_STATES",
    "RECEIPTS_PER_POST_MAX",
    "RECEIPT_BODY_MAX_BYTES",
    "CarrierReceipt",
    "DoneAtFormat",
    "MalformedReceipt",
    "PostedReceipts",
    "ReceiptReader",
    "ReceiptSettings",
    "ReceiptState",
    "parse_receipts",
    "read_receipt_settings",
]

# RULES 37. A POST of 200 receipts of our own format has about 50 KB.
RECEIPT_BODY_MAX_BYTES = 65_536
# One POST becomes one insert; more than this in 64 KB is no honest carrier.
RECEIPTS_PER_POST_MAX = 1_000
# A form has one receipt; its fields are a handful.
FORM_FIELDS_MAX = 100
UTC_OFFSET_MAX_MINUTES = 24 * 60 - 1


class ReceiptState(StrEnum):
    """What a receipt says. enroute, accepted and unknown decide nothing."""

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    REJECTED = "rejected"
    ENROUTE = "enroute"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"


_WORDS = {
    ReceiptState.DELIVERED: ("delivered", "delivrd"),
    ReceiptState.UNDELIVERED: ("undelivered", "undeliv", "undeliverable", "failed", "deleted"),
    ReceiptState.EXPIRED: ("expired",),
    ReceiptState.REJECTED: ("rejected", "rejectd"),
    ReceiptState.ENROUTE: ("enroute", "buffered", "scheduled"),
    ReceiptState.ACCEPTED: ("accepted", "acceptd"),
    ReceiptState.UNKNOWN: ("unknown", "skipped"),
}
DEFAULT_STATES: Mapping[str, ReceiptState] = MappingProxyType(
    {word: state for state, words in _WORDS.items() for word in words}
)


class ReceiptSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section `receipts` of a carrier's settings; the defaults are the simulator's own format.

    From `reference` to `attempt_no` they are dotted paths into one receipt; None: the carrier does not say
    it. `items` is the path to the list of receipts in one POST ("" for a bare list; None: the POST is one
    receipt). Without a `reference` the carrier echoes our message id, and that is the reference, as on the
    submit's side. `states` maps the carrier's words, in any case, and adds to DEFAULT_STATES; any other word
    is `unknown`.
    """

    auth: ReceiptAuth
    reference: str | None = "reference"
    state: str = "state"
    done_at: str | None = "done_at"
    msisdn: str | None = "msisdn"
    error_code: str | None = "error_code"
    part_no: str | None = "part_no"
    message_id: str | None = "message_id"
    attempt_no: str | None = "attempt_no"
    items: str | None = None
    states: dict[str, ReceiptState] = {}
    done_at_format: DoneAtFormat = DoneAtFormat.ISO8601
    utc_offset_minutes: int = 0  # of dates that name no zone

    def __post_init__(self) -> None:
        """Refuse settings that could never yield a receipt."""
        if self.reference is None and self.message_id is None:
            raise ValueError(
                "receipts: give the path of `reference`, or of `message_id` if the carrier echoes ours"
            )
        if abs(self.utc_offset_minutes) > UTC_OFFSET_MAX_MINUTES:
            raise ValueError(f"receipts.utc_offset_minutes: at most {UTC_OFFSET_MAX_MINUTES} either way")
        paths = (
            self.reference,
            self.state,
            self.done_at,
            self.msisdn,
            self.error_code,
            self.part_no,
            self.message_id,
        )
        for path in (*paths, self.attempt_no, self.items or None):
            if path is not None and not is_path(path):
                raise ValueError(f"receipts: {path!r} is not a dotted path such as report.id")


class CarrierReceipt(NamedTuple):
    """One receipt in our words.

    `done_at` is in UTC, `msisdn` in E.164; `message_id` and `attempt_no` are ours, echoed by who can.
    """

    reference: str
    state: ReceiptState
    done_at: datetime | None
    msisdn: str | None
    error_code: str | None
    part_no: int | None
    message_id: UUID | None = None
    attempt_no: int | None = None


class PostedReceipts(NamedTuple):
    """What one POST brought, in its order.

    `refused` says of each receipt that cannot be settled which it is and why, in words that repeat nothing of
    it. `undated` counts those of `receipts` whose date could not be read.
    """

    receipts: list[CarrierReceipt]
    refused: list[str]
    undated: int


def read_receipt_settings(settings: Mapping[str, object]) -> ReceiptSettings | None:
    """Return the section `receipts` of a carrier's settings; None when the carrier sends no receipts.

    Raises:
        ValueError: the section is wrong; the text names the field.
    """
    section = settings.get("receipts")
    return None if section is None else msgspec.convert(section, ReceiptSettings)


class ReceiptReader:
    """Reads what one carrier POSTs."""

    def __init__(self, settings: ReceiptSettings) -> None:
        self.settings = settings
        self._words = {**DEFAULT_STATES, **{word.lower(): state for word, state in settings.states.items()}}
        self._reference = _reader(settings.reference)
        self._state = _reader(settings.state)
        self._done_at = _reader(settings.done_at)
        self._msisdn = _reader(settings.msisdn)
        self._error_code = _reader(settings.error_code)
        self._part_no = _reader(settings.part_no)
        self._message_id = _reader(settings.message_id)
        self._attempt_no = _reader(settings.attempt_no)

    def read(self, body: bytes, content_type: str) -> PostedReceipts:
        """Read one POST: JSON, or application/x-www-form-urlencoded for a single receipt.

        Each receipt is read alone: one without what settling needs costs none of the others. Money hangs on
        its reference, its state and its part, and none of them is ever guessed.

        Raises:
            MalformedReceipt: too large, or no receipts.
        """
        refused: list[str] = []
        receipts: list[CarrierReceipt] = []
        undated = 0
        for nth, item in enumerate(self._items(body, content_type)):
            try:
                receipt = self._read(item)
            except MalformedReceipt as error:
                refused.append(f"receipt {nth}: {error}")
                continue
            receipts.append(receipt)
            undated += receipt.done_at is None and fields.is_said(self._done_at(item))
        return PostedReceipts(receipts, refused, undated)

    def _items(self, body: bytes, content_type: str) -> list[object]:
        if len(body) > RECEIPT_BODY_MAX_BYTES:
            raise MalformedReceipt(
                f"the body has {len(body)} bytes; at most {RECEIPT_BODY_MAX_BYTES} are read"
            )
        document = _decode(body, content_type)
        path = self.settings.items
        items = [document] if path is None else look_up(document, path)
        if not isinstance(items, list):
            raise MalformedReceipt(f"there is no list of receipts at {path!r}")
        if len(items) > RECEIPTS_PER_POST_MAX:
            raise MalformedReceipt(
                f"{len(items)} receipts in one POST; at most {RECEIPTS_PER_POST_MAX} are read"
            )
        return items

    def _read(self, item: object) -> CarrierReceipt:
        if not isinstance(item, dict):
            raise MalformedReceipt(f"an object is expected, this is {type(item).__name__}")
        settings = self.settings
        message_id = fields.echoed_id(self._message_id(item))
        reference = message_id and str(message_id) if settings.reference is None else self._reference(item)
        word = fields.required_text("state", self._state(item))
        return CarrierReceipt(
            fields.required_text("reference", reference),
            self._words.get(word.lower(), ReceiptState.UNKNOWN),
            fields.done_at(settings.done_at_format, settings.utc_offset_minutes, self._done_at(item)),
            fields.international(self._msisdn(item)),
            fields.error_code(self._error_code(item)),
            fields.small_number("part_no", self._part_no(item), fields.PART_NO_MAX),
            message_id,
            fields.small_number("attempt_no", self._attempt_no(item), fields.ATTEMPT_NO_MAX),
        )


def parse_receipts(settings: ReceiptSettings, body: bytes, content_type: str) -> PostedReceipts:
    """Read one POST of a carrier once; see ``ReceiptReader``."""
    return ReceiptReader(settings).read(body, content_type)


def _reader(path: str | None) -> Callable[[object], object | None]:
    return _nothing if path is None else reader(path)


def _nothing(_item: object) -> None:
    return None


def _decode(body: bytes, content_type: str) -> object:
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(
                body.decode(errors="replace"),
                keep_blank_values=True,
                errors="replace",
                max_num_fields=FORM_FIELDS_MAX,
            )
            return dict(pairs)
        return _decode_json(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReceipt(f"the body cannot be read as {kind or 'application/json'}: {error}") from None


def _decode_json(body: bytes) -> object:
    """Decode JSON, also where a text in it is in another encoding or was cut inside a character.

    It may be a text that nobody reads. What cannot be read of it is U+FFFD or a lone surrogate, and neither
    is in a reference or a state.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return json.loads(body.decode(errors="replace"))
