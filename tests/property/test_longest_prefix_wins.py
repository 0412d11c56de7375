from hypothesis import given
from hypothesis import strategies as st

from shared.domain.rates import PRICE_MICROS_MAX, NoRate, Priced, RateTable

# Few different digits, so that prefixes nest and numbers meet them.
digits = st.from_regex(r"[1-3][0-3]{0,14}", fullmatch=True)
prices = st.dictionaries(digits, st.integers(0, PRICE_MICROS_MAX), max_size=40)


@given(prices, digits, st.integers(1, 255))
def test_the_price_is_that_of_a_search_through_every_prefix(price_by_prefix, number, segments):
    table = RateTable(price_by_prefix, "EUR", version=3)
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


@given(prices, prices, digits, st.integers(1, 255))
def test_own_prices_over_a_shared_list_price_as_one_list_of_both(own, everybodys, number, segments):
    shared = RateTable(everybodys, "EUR", version=3)
    laid_over = RateTable(own, "EUR", version=3, everybodys=shared)
    as_one = RateTable({**everybodys, **own}, "EUR", version=3)
    assert price_of(laid_over, number, segments) == price_of(as_one, number, segments)
    # Another client's prices are not touched by these.
    assert price_of(shared, number, segments) == price_of(RateTable(everybodys, "EUR", 3), number, segments)


def price_of(table: RateTable, number: str, segments: int) -> Priced | None:
    try:
        return table.price(f"+{number}", segments)
    except NoRate:
        return None
