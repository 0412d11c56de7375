import pytest

from shared.domain.money import MoneyFormatError
from shared.domain.rates import PRICE_MICROS_MAX, InvalidRate, NoRate, Priced, Rate, RateTable

GERMANY = {"49": 75_000, "4915": 70_000, "1": 7_900}


def test_the_longest_prefix_prices_each_segment():
    table = RateTable(GERMANY, "EUR", version=7)
    assert table.price("+4915112345678", 1) == Priced(70_000, "EUR", 7, "4915")
    assert table.price("+4930123456", 3) == Priced(225_000, "EUR", 7, "49")
    assert table.price("+12015550123", 2) == Priced(15_800, "EUR", 7, "1")


def test_a_destination_without_a_rate_is_refused():
    with pytest.raises(NoRate, match="no rate"):
        RateTable(GERMANY, "EUR", version=1).price("+447400123456", 1)
    with pytest.raises(NoRate):
        RateTable({}, "EUR", version=1).price("+4915112345678", 1)


def test_a_refusal_repeats_no_more_than_the_country_of_a_number():
    with pytest.raises(NoRate) as refusal:
        RateTable({}, "EUR", version=1).price("+4915112345678", 1)
    assert "151" not in str(refusal.value)


def test_a_number_shorter_than_a_prefix_does_not_match_it():
    table = RateTable({"4915112345678": 1, "491": 2}, "EUR", version=1)
    assert table.price("+49151", 1).prefix == "491"


def test_a_free_destination_costs_nothing():
    assert RateTable({"49": 0}, "EUR", version=1).price("+4930123456", 10).amount_micros == 0


def test_a_clients_own_price_stands_before_everybodys_of_the_same_prefix_and_no_longer_one():
    everybodys = RateTable(GERMANY, "EUR", version=7)
    own = RateTable({"49": 60_000, "33": 0}, "EUR", version=7, everybodys=everybodys)
    assert own.price("+4930123456", 2) == Priced(120_000, "EUR", 7, "49")
    assert own.price("+4915112345678", 1) == Priced(70_000, "EUR", 7, "4915")
    assert own.price("+12015550123", 1) == Priced(7_900, "EUR", 7, "1")
    assert own.price("+33612345678", 1) == Priced(0, "EUR", 7, "33")
    assert everybodys.price("+4930123456", 2) == Priced(150_000, "EUR", 7, "49")
    with pytest.raises(NoRate):
        own.price("+447400123456", 1)


@pytest.mark.parametrize("price_micros", [-1, PRICE_MICROS_MAX + 1])
def test_a_table_takes_no_price_that_nobody_means(price_micros):
    with pytest.raises(InvalidRate, match=str(price_micros)):
        RateTable({"49": price_micros, "1": 7_900}, "EUR", version=1)


@pytest.mark.parametrize("prefix", ["", "+49", "049", "4 9", "49a", "\u0664", "1" * 16, "49\n"])
def test_a_prefix_is_the_first_digits_of_a_number(prefix):
    with pytest.raises(InvalidRate):
        Rate(prefix, 1, "EUR")


@pytest.mark.parametrize("price_micros", [-1, PRICE_MICROS_MAX + 1])
def test_a_price_that_nobody_means_is_refused(price_micros):
    with pytest.raises(InvalidRate):
        Rate("49", price_micros, "EUR")


def test_a_price_is_whole_micros_of_a_currency():
    with pytest.raises(TypeError):
        Rate("49", 0.0079, "EUR")  # type: ignore[arg-type]  # the refusal is what is tested
    with pytest.raises(MoneyFormatError):
        Rate("49", 7_900, "euro")


@pytest.mark.parametrize("segments", [0, -1, 256])
def test_a_message_of_no_segments_is_an_error_of_the_caller(segments):
    with pytest.raises(ValueError, match="1 to 255"):
        RateTable(GERMANY, "EUR", version=1).price("+4930123456", segments)
