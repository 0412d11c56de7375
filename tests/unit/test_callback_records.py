"""What is noted of callbacks: which notes are of no try and end nothing, and so may be made only once."""

from dlr import records
from dlr.store import CallbackWork
from shared.domain.callbacks import Posted, Rejected, RejectReason

WORK = CallbackWork(*[None] * len(CallbackWork._fields))._replace(attempts=3)  # type: ignore[arg-type]


def test_what_found_no_turn_is_put_off() -> None:
    put_off = [records.sent_back(WORK, 1.0), records.without_connection(WORK), records.left(WORK)]
    assert all(record.is_put_off and record.attempt_no == WORK.attempts for record in put_off)


def test_a_try_and_what_ends_a_callback_is_not_put_off() -> None:
    refused = Posted(503, 12, "127.0.0.1", b"")
    lost = Rejected(RejectReason.TIMED_OUT, "no answer", 12, None)
    taken = Posted(200, 12, "127.0.0.1", b"")
    noted = [
        records.tried(WORK, refused, None, 5.0, keeps_answer=False),
        records.tried(WORK, lost, None, 5.0, keeps_answer=False),
        records.tried(WORK, taken, "delivered", 0.0, keeps_answer=False),
        records.moved(WORK, refused),
        records.without_secret(WORK),
        records.barred(WORK, "example.org"),
        records.ended(WORK, "superseded"),
    ]
    assert not any(record.is_put_off for record in noted)
