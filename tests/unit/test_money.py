import operator
import re

import pytest

from shared.domain.money import (
    MICROS_MAX,
    MICROS_MIN,
    CurrencyMismatch,
    Money,
    MoneyFormatError,
    MoneyOutOfRange,
    format_micros,
    parse_micros,
)

SPELLINGS = [
    (7_900, "0.0079"),
    (75_000, "0.0750"),
    (1, "0.000001"),
    (99_925_000, "99.9250"),
    (0, "0.0000"),
    (-75_000, "-0.0750"),
    (1_000_000, "1.0000"),
    (1_234_567, "1.234567"),
    (12_345_670, "12.34567"),
    (MICROS_MAX, "9223372036854.775807"),
    (MICROS_MIN, "-9223372036854.775808"),
]


@pytest.mark.parametrize(("micros", "text"), SPELLINGS)
def test_an_amount_shows_four_decimals_and_no_more_than_it_needs(micros, text):
    assert format_micros(micros) == text
    assert parse_micros(text) == micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [("1", 1_000_000), ("0.1", 100_000), ("-3.5", -3_500_000), ("-0", 0), ("10.000000", 10_000_000)],
)
def test_fewer_decimals_are_read_too(text, micros):
    assert parse_micros(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "1.",
        ".5",
        "01",
        "1e3",
        "1E-3",
        "1_000",
        "1,5",
        "0.0000001",
        "NaN",
        "inf",
        "--1",
        "0x10",
        "\u0661",
        "1.\u0661",
        "9223372036854.775808",
        "-9223372036854.775809",
        "9" * 14,
        "9" * 100_000,
    ],
)
def test_what_is_no_plain_decimal_of_64_bits_is_refused(text):
    with pytest.raises(MoneyFormatError) as refusal:
        parse_micros(text)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0000001", "an amount has at most 6 decimals, and 0.0000001 has 7"),
        ("-12.12345678", "an amount has at most 6 decimals, and -12.12345678 has 8"),
        ("99999999999999999", "99999999999999999 is too large an amount"),
        ("9223372036854.775808", "9223372036854.775808 is too large an amount"),
        ("0,10", "an amount is a decimal string like \"0.0079\", not '0,10'"),
        ("00.0000001", "an amount is a decimal string like \"0.0079\", not '00.0000001'"),
    ],
)
def test_what_is_too_fine_or_too_large_is_told_so(text, why):
    with pytest.raises(MoneyFormatError, match=f"^{re.escape(why)}$"):
        parse_micros(text)


def test_money_of_one_currency_adds_subtracts_negates_and_multiplies():
    assert Money(5, "EUR") + Money(7, "EUR") == Money(12, "EUR")
    assert Money(5, "EUR") - Money(7, "EUR") == Money(-2, "EUR")
    assert -Money(5, "EUR") == Money(-5, "EUR")
    assert Money(5, "EUR") * 3 == Money(15, "EUR")
    assert str(Money(75_000, "EUR")) == "0.0750 EUR"


def test_money_of_one_currency_is_ordered():
    small, large = Money(1, "EUR"), Money(2, "EUR")
    assert small < large
    assert small <= large
    assert large > small
    assert large >= small
    assert max(small, large) is large
    assert not small < Money(1, "EUR")


@pytest.mark.parametrize(
    "meet", [operator.add, operator.sub, operator.lt, operator.le, operator.gt, operator.ge]
)
def test_two_currencies_refuse_to_meet(meet):
    with pytest.raises(CurrencyMismatch, match="EUR and USD"):
        meet(Money(1, "EUR"), Money(1, "USD"))
    with pytest.raises(TypeError):
        meet(Money(1, "EUR"), 1)


def test_two_currencies_are_unequal_rather_than_an_error():
    assert Money(1, "EUR") != Money(1, "USD")
    assert len({Money(1, "EUR"), Money(1, "USD"), Money(1, "EUR")}) == 2


@pytest.mark.parametrize("micros", [1.0, True, "1", None])
def test_only_whole_numbers_become_money(micros):
    with pytest.raises(TypeError):
        Money(micros, "EUR")


def test_money_is_multiplied_by_whole_numbers_only():
    with pytest.raises(TypeError):
        Money(1, "EUR") * 1.5  # type: ignore[operator]  # the refusal is what is tested


@pytest.mark.parametrize("currency", ["eur", "EURO", "EU", "", "E1R", "EUR\n"])
def test_a_currency_is_three_capital_letters(currency):
    with pytest.raises(MoneyFormatError):
        Money(1, currency)


def test_money_that_postgresql_could_not_store_is_refused():
    with pytest.raises(MoneyOutOfRange):
        Money(MICROS_MAX, "EUR") + Money(1, "EUR")
    with pytest.raises(MoneyOutOfRange):
        -Money(MICROS_MIN, "EUR")
