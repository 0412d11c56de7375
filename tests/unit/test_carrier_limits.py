"""What an operator may set of a carrier fits what the receipts' functions can do."""

import re
from pathlib import Path

import msgspec
import pytest

from api.carrier_schemas import CarrierRequest

DAY_SECONDS = 86_400
MATCH = Path("dlr/functions/match_receipts_v1.sql")


def days_of_a_reference() -> int:
    (days,) = re.findall(r"c_match_window constant interval := '(\d+) days'", MATCH.read_text("utf-8"))
    return int(days)


def test_no_hold_outlives_the_reference_that_its_receipt_is_found_by() -> None:
    longest = days_of_a_reference() * DAY_SECONDS
    row = {"settings": {}, "no_receipt_seconds": longest}
    assert msgspec.convert(row, CarrierRequest).no_receipt_seconds == longest
    with pytest.raises(msgspec.ValidationError, match="no_receipt_seconds"):
        msgspec.convert(row | {"no_receipt_seconds": longest + 1}, CarrierRequest)
