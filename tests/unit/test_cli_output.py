"""What people see: amounts with their thousands apart, tables without empty columns, words that fold."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from cli.output import Output, amount_text, money_text, short_time_text, time_text
from shared.domain.money import MICROS_MAX, MICROS_MIN, parse_micros


def test_amounts_have_their_thousands_apart_and_at_least_four_decimals():
    assert amount_text("10000.0000", "EUR") == "10,000.0000 EUR"
    assert money_text(-500) == "-0.0005"
    assert money_text(-1_234_567_890_001) == "-1,234,567.890001"


@given(st.integers(MICROS_MIN, MICROS_MAX))
def test_an_amount_for_people_is_the_amount(micros):
    assert parse_micros(money_text(micros).replace(",", "")) == micros


def test_times_are_local_and_short_where_there_is_little_room():
    time = "2020-11-21T10:00:00.123Z"
    local = datetime(2020, 11, 21, 10, tzinfo=UTC).astimezone()
    assert time_text(time) == local.strftime("%Y-%m-%d %H:%M:%S")
    assert short_time_text(time) == local.strftime("%Y-%m-%d %H:%M")
    assert time_text(None) == short_time_text(None) == ""


def test_a_table_leaves_empty_columns_out_and_sets_numbers_to_the_right(capsys):
    output = Output(as_json=False)
    output.table(
        ["id", ">price", "error"], [("a", "1.0", ""), ("b", "10.0", Text(""))], footer=("", "11.0", "")
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["  id  price", "  a     1.0", "  b    10.0", "       11.0"]


def test_a_table_without_rows_says_so_beside_the_result(capsys):
    output = Output(as_json=False)
    output.table(["id"], [])
    seen = capsys.readouterr()
    assert (seen.out, seen.err.strip()) == ("", "None.")


def test_details_stand_in_two_columns_and_lines_of_a_text_below_each_other(capsys):
    output = Output(as_json=False)
    output.details([("Id", "1"), ("Error", None), ("Text", "a\nb")])
    assert capsys.readouterr().out.splitlines() == ["  Id    1", "  Text  a", "        b"]


def test_what_looks_like_markup_is_shown_as_it_is(capsys):
    output = Output(as_json=False)
    output.details([("Text", "[bold]x[/bold] :smile:")])
    output.table(["id", "~text"], [("1", "[red]y"), ("2", ":smile:")])
    seen = capsys.readouterr().out
    assert "[bold]x[/bold] :smile:" in seen
    assert "[red]y" in seen


def test_json_is_one_document_and_notes_are_silent(capsys):
    output = Output(as_json=True)
    output.note("beside")
    output.document({"a": 1})
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ('{\n  "a": 1\n}\n', "")
