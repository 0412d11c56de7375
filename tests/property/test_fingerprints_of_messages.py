"""A message's fingerprint is that of its canonical JSON: what was stored before is found again."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from api.orders import fingerprint_of
from api.schemas import MessageRequest
from shared.domain.fingerprint import JSON, fingerprint

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REQUESTS = st.builds(
    MessageRequest,
    to=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    sender=TEXTS,
    lane=st.sampled_from([None, "express", "bulk"]),
    client_ref=TEXTS,
    send_at=st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    valid_for_seconds=st.none() | st.integers(60, 259_200).filter(lambda seconds: seconds != 172_800),
    max_price=TEXTS,
    callback_url=TEXTS,
    delivery=st.none(),
)


@given(REQUESTS, st.booleans())
def test_a_messages_fingerprint_is_that_of_its_canonical_json(request: MessageRequest, is_test: bool) -> None:
    send_at = request.send_at.isoformat() if request.send_at else None
    body: dict[str, JSON] = {
        "to": request.to, "text": request.text, "from": request.sender, "lane": request.lane,
        "client_ref": request.client_ref, "send_at": send_at,
        "delivery": request.delivery, "valid_for_seconds": request.valid_for_seconds,
        "max_price": request.max_price, "callback_url": request.callback_url, "is_test": is_test,
    }  # fmt: skip
    assert fingerprint_of("/v1/messages", request, is_test=is_test) == fingerprint(
        "POST", "/v1/messages", body
    )
