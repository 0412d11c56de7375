from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.money import MICROS_MAX, MICROS_MIN, format_micros, parse_micros

amounts = st.integers(MICROS_MIN, MICROS_MAX)


@given(amounts)
def test_every_amount_reads_back_as_itself(micros):
    assert parse_micros(format_micros(micros)) == micros


@given(amounts)
def test_the_decimal_string_is_the_exact_amount_with_four_to_six_decimals(micros):
    text = format_micros(micros)
    assert Decimal(text) * 1_000_000 == micros
    decimals = text.partition(".")[2]
    assert 4 <= len(decimals) <= 6
    assert len(decimals) == 4 or not decimals.endswith("0")
