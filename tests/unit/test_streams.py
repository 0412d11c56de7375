"""Streams: which takes what, and what gives way when one is full (DESIGN 7)."""

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy

from shared.runtime.streams import (
    DUPLICATE_WINDOW_SECONDS,
    MESSAGE_BYTES_MAX,
    STREAMS,
    UnknownSubject,
    differs,
    stream_of,
)


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("sms.send.express", "SMS_SEND"),
        ("sms.send.bulk", "SMS_SEND"),
        ("sms.receipt.7", "SMS_RECEIPT"),
        ("sms.event.DELIVERED", "SMS_EVENT"),
        ("sms.dlq", "SMS_DLQ"),
    ],
)
def test_each_subject_has_its_stream(subject: str, stream: str) -> None:
    assert stream_of(subject) == stream


@pytest.mark.parametrize(
    "subject", ["sms.send.later", "sms.receipt.", "sms.receipt.1.2", "sms.dlq.x", "", "sms"]
)
def test_another_subject_has_none(subject: str) -> None:
    with pytest.raises(UnknownSubject):
        stream_of(subject)


def test_a_full_work_queue_refuses_and_a_full_record_forgets_its_oldest() -> None:
    for stream in STREAMS:
        is_work = stream.retention is RetentionPolicy.WORK_QUEUE
        assert stream.discard is (DiscardPolicy.NEW if is_work else DiscardPolicy.OLD)
        assert is_work == (stream.age_max_seconds == 0)


def test_a_stream_is_changed_only_when_something_differs() -> None:
    for stream in STREAMS:
        wanted = stream.config(replicas=1, store_bytes=1000)
        assert not differs(stream.config(replicas=1, store_bytes=1000), wanted)
        assert differs(stream.config(replicas=3, store_bytes=1000), wanted)
        assert differs(stream.config(replicas=1, store_bytes=2000), wanted)


def test_limits_hold_for_every_stream() -> None:
    for stream in STREAMS:
        config = stream.config(replicas=1, store_bytes=1000)
        assert config.duplicate_window == DUPLICATE_WINDOW_SECONDS >= 120
        assert config.max_msg_size == MESSAGE_BYTES_MAX < 2**20
        assert config.max_bytes
