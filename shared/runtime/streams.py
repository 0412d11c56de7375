"""The streams of JetStream: what each is for, how long it keeps, and what gives way when it is full.

Any of them may be wiped at any moment (DESIGN 1): PostgreSQL holds every row that a message here only
points at. So a full work queue refuses the new message, which then waits in the outbox, and never drops
an old one in silence; a full record of the past drops its oldest part.
"""

from dataclasses import dataclass
from typing import Final

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig

DAY_SECONDS: Final = 86_400.0
# A publish is repeated for 15 s with the same Nats-Msg-Id; two minutes cover it and a slow fail-over.
DUPLICATE_WINDOW_SECONDS: Final = 120.0
# A bundle of 100 ids has 5 kB and 500 facts have 200 kB; the server itself refuses more than 1 MB.
MESSAGE_BYTES_MAX: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its subjects, its kind, its share of the disk that streams may fill."""

    name: str
    subjects: tuple[str, ...]
    retention: RetentionPolicy
    discard: DiscardPolicy
    age_max_seconds: float
    store_percent: int

    def config(self, *, replicas: int, store_bytes: int, compression: str = "none") -> StreamConfig:
        """Return what JetStream is asked for; ``compression``: none or s2."""
        return StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=self.retention,
            discard=self.discard,
            storage=StorageType.FILE,
            num_replicas=replicas,
            max_age=self.age_max_seconds,
            max_bytes=store_bytes * self.store_percent // 100,
            max_msg_size=MESSAGE_BYTES_MAX,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
            compression=StoreCompression(compression),
        )


# Work has no age limit: the sweeper decides what is lost, by the oldest message that is still there.
STREAMS: Final = (
    Stream(
        name="SMS_SEND",
        subjects=("sms.send.express", "sms.send.normal", "sms.send.bulk"),
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        age_max_seconds=0.0,
        store_percent=40,
    ),
    Stream(
        name="SMS_RECEIPT",
        subjects=("sms.receipt.*",),
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        age_max_seconds=0.0,
        store_percent=15,
    ),
    Stream(
        name="SMS_EVENT",
        subjects=("sms.event.*",),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        age_max_seconds=7 * DAY_SECONDS,
        store_percent=40,
    ),
    Stream(
        name="SMS_DLQ",
        subjects=("sms.dlq",),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        age_max_seconds=30 * DAY_SECONDS,
        store_percent=5,
    ),
)


class UnknownSubject(Exception):  # noqa: N818 - named for what happened
    """No stream of ours takes this subject."""


def stream_of(subject: str) -> str:
    """Return the name of the stream that takes a subject."""
    for stream in STREAMS:
        for pattern in stream.subjects:
            if subject == pattern or (pattern.endswith(".*") and _fits(subject, pattern[:-1])):
                return stream.name
    raise UnknownSubject(subject)


def _fits(subject: str, prefix: str) -> bool:
    rest = subject[len(prefix) :]
    return subject.startswith(prefix) and bool(rest) and "." not in rest


def differs(found: StreamConfig, wanted: StreamConfig) -> bool:
    """True when a stream on the server is not as we want it, in what may be changed."""
    return (
        sorted(found.subjects or []) != sorted(wanted.subjects or [])
        or found.num_replicas != wanted.num_replicas
        or found.max_bytes != wanted.max_bytes
        or found.max_age != wanted.max_age
        or found.max_msg_size != wanted.max_msg_size
        or found.discard != wanted.discard
        or found.duplicate_window != wanted.duplicate_window
        or (found.compression or StoreCompression.NONE) != wanted.compression
    )
