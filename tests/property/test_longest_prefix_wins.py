from hypothesis import given
from hypothesis import strategies as st

from shared.domain.rates import PRICE_MICROS_MAX, NoRate, Rate, RateTable

# Few different digits, so that prefixes nest and numbers meet them.
digits = st.from_regex(r"[1-3][0-3]{0,14}", fullmatch=True)
prices = st.dictionaries(digits, st.integers(0, PRICE_MICROS_MAX), max_size=40)


@given(prices, digits, st.integers(1, 255))
def test_the_price_is_that_of_a_search_through_every_prefix(price_by_prefix, number, segments):
    table = RateTable([Rate(prefix, price, "EUR") for prefix, price in price_by_prefix.items()], version=3)
    fitting = [prefix for prefix in price_by_prefix if number.startswith(prefix)]
    try:
        priced = table.price(f"+{number}", segments)
    except NoRate:
        assert fitting == []
        return
    assert priced.prefix == max(fitting, key=len)
    assert priced.amount_micros == segments * price_by_prefix[priced.prefix]
    assert type(priced.amount_micros) is int
    assert (priced.currency, priced.rate_version) == ("EUR", 3)
