"""A price list: what a spreadsheet writes with decimal commas must never make messages free."""

import contextlib
import re

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.__main__ import tollwire
from cli.csv_prices import read_prices
from cli.csv_rows import CsvFault
from cli.failures import Exit


def fault(text: str) -> str:
    with pytest.raises(CsvFault) as caught:
        read_prices(text.encode())
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prefix,price\n49,0,0750\n33,0,0630\n", "line 2 has 3 columns, the first line 2"),
        ("prefix;price\n49;0,0750\n", "line 2: '0,0750' is no price"),
        ("prefix,price,\n49,0.075,\n33,1,0750\n", "line 3 has 3 columns, the first line 2"),
        ("prefix,price,comment\n49,0.075\n33,1,0630\n", "line 3: a price of '1,0630'"),
        ("prefix,price,comment\n33,0,0630,France\n", "line 2 has 4 columns, the first line 3"),
        ("prefix,price,comment\n33, 0 , 0630\n", "line 2: a price of '0,0630'"),
        ("prefix,price\n49\n", "line 2 has 1 columns"),
        ("prefix,price\n49,0.07\n4x,0.07\n", "line 3: '4x' is no prefix"),
        ("prefix,price\n49,1e3\n", "'1e3' is no price"),
        ("prefix,price\n49,-1\n", "'-1' is no price"),
        ("prefix,price\n49,0.1\n33,0.1\n+49,0.2\n", "line 4: the prefix 49 was there before"),
        ("prefix,price\n", "no price in it"),
        ("prefix\n49\n", "no column 'price'"),
        ("", "it is empty"),
    ],
)
def test_a_list_that_is_not_right_is_refused_with_the_line(text, words):
    assert words in fault(text)


def test_a_list_is_read_as_the_api_takes_it():
    assert read_prices(b"place;Prefix;price\nGermany;+49;0.0750\nFrance;33;\n") == [
        {"prefix": "49", "price": "0.0750"},
        {"prefix": "33", "price": None},
    ]


def test_columns_beside_the_price_are_left_alone():
    raw = b"prefix,price,mcc,place,\n49,0.0750,262,Germany,\n33,1.0,208,France\n44,1,,UK,,\n"
    assert [line["price"] for line in read_prices(raw)] == ["0.0750", "1.0", "1"]
    assert read_prices(b"prefix;price;mcc\n49;1;262\n") == [{"prefix": "49", "price": "1"}]


@given(st.binary(max_size=200) | st.text("prefix,;\n49.0+\0\x1c", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw):
    with contextlib.suppress(CsvFault):
        for line in read_prices(raw):
            assert re.fullmatch("[1-9][0-9]{0,14}", line["prefix"])
            assert line["price"] is None or re.fullmatch(r"[0-9]+(\.[0-9]+)?", line["price"])


@pytest.mark.parametrize("price", ["0", "0.000"])
def test_a_price_of_nothing_is_taken_only_when_that_is_said(price, tmp_path):
    # Nobody listens there: what is not refused before asks, and is UNREACHABLE.
    api = ["--api-url", "http://127.0.0.1:9", "--api-key", "x"]
    path = tmp_path / "prices.csv"
    path.write_text(f"prefix,price\n33,0.0630\n49,{price}\n")
    for words in (["49", price], ["--csv", str(path)]):
        refused = CliRunner().invoke(tollwire, ["rate", "set", *words, *api])
        assert refused.exit_code == Exit.USAGE
        assert "the prefix 49." in refused.output
        asked = CliRunner().invoke(tollwire, ["rate", "set", *words, *api, "--allow-free"])
        assert asked.exit_code == Exit.UNREACHABLE
