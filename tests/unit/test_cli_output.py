"""What people see: amounts with their thousands apart, tables without empty columns, words that fold."""

import json
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


ORDERS = "a\x1b]0;owned\x07\x1b[2Jb\x9b31m\r\x7f\u202ec"


def test_what_a_terminal_would_obey_is_shown_as_dots(capsys):
    output = Output(as_json=False)
    output.details(
        [("Text", f"{ORDERS}\nline"), ("Error", Text(ORDERS.replace("\r", "").replace("\x07", "")))]
    )
    output.table(["id", "~reference"], [(ORDERS, ORDERS), ("1", Text(ORDERS, "red"))])
    output.line(ORDERS)
    output.note(ORDERS)
    seen = capsys.readouterr()
    shown = (seen.out + seen.err).replace("\n", "")
    assert shown.isprintable()
    assert "a·]0;owned··[2Jb·31m···c" in shown
    assert "        line\n" in seen.out


def test_a_text_of_any_language_is_shown_as_it_is(capsys):
    text = "Zu\u00a0Hause, می\u200cخواهم, \U0001f468\u200d\U0001f469\u200d\U0001f467, 50\u202f€"
    Output(as_json=False).details([("Text", text)])
    assert text in capsys.readouterr().out


def test_json_says_the_same_and_has_nothing_that_a_terminal_would_obey(capsys):
    Output(as_json=True).document({"text": ORDERS})
    seen = capsys.readouterr().out
    assert json.loads(seen) == {"text": ORDERS}
    assert all(sign == "\n" or sign == "\u202e" or sign.isprintable() for sign in seen)
