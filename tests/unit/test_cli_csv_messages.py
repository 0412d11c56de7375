"""Messages from CSV as spreadsheets write it; what is not right is refused as a whole, with its line."""

import codecs
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import csv_messages, csv_rows
from cli.csv_messages import CsvMessage, read_csv
from cli.csv_rows import CsvFault

MESSAGES = Path(__file__).parent.parent / "data" / "messages.csv"


def rows(text: str) -> list[tuple[int, str, str]]:
    return [(row.line, row.to, row.text) for row in read_csv(text.encode()).messages]


def fault(raw: bytes | str) -> str:
    with pytest.raises(CsvFault) as caught:
        read_csv(raw.encode() if isinstance(raw, str) else raw)
    return str(caught.value)


def test_the_columns_may_stand_anywhere_among_others():
    assert rows("language,Text,x, TO \nde,Hallo,1,+49151\n") == [(2, "+49151", "Hallo")]


def test_quotes_and_line_breaks_in_a_text_belong_to_it():
    text = 'to,text\r\n+1,"He said ""hi"",\r\nand left"\r\n+2,b\r\n'
    assert rows(text) == [(2, "+1", 'He said "hi",\r\nand left'), (4, "+2", "b")]


def test_a_byte_order_mark_is_no_part_of_the_first_column():
    raw = codecs.BOM_UTF8 + b"to,text\n+1,a\n"
    assert read_csv(raw).messages == [CsvMessage(2, "+1", "a")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_what_stands_between_columns(delimiter):
    assert rows(f"to{delimiter}text\n+1{delimiter}a b\n") == [(2, "+1", "a b")]


def test_blank_lines_do_not_count_but_their_numbers_do():
    assert rows("\nto,text\n\n+1,a\n\n\n+2,b\n") == [(4, "+1", "a"), (7, "+2", "b")]


def test_empty_columns_may_follow_or_be_left_out_at_a_rows_end():
    assert rows("to,text,note\n+1,a\n+2,b,,,\n") == [(2, "+1", "a"), (3, "+2", "b")]


def test_a_column_without_a_name_at_the_end_takes_nothing_that_a_text_lost():
    assert "line 3 has 3 columns, the first line 2" in fault("to,text,\n+1,a,\n+2,Hi, you\n")
    assert rows(",to,text\n0,+1,a\n") == [(2, "+1", "a")], "before them it is some program's own numbering"


def test_spaces_around_a_number_are_taken_off_and_around_a_text_kept():
    assert rows("to,text\n +1 , a \n") == [(2, "+1", " a ")]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", "it is empty"),
        ("to,text\n", "no message in it"),
        ("to,message\n+1,a\n", "no column 'text'; the first line names 'to', 'message'"),
        ("text\na\n", "no column 'to'"),
        ("to,to,text\n+1,+2,a\n", "'to' is there 2 times"),
        ("to,text\n+1,a\n+2\n", "line 3 has 1 columns"),
        ("to,text\n+1,a\n+2,Dear Ann, your code is 1\n", "line 3 has 3 columns, the first line 2"),
        ("to;text\n+1;a;b\n", "a field that holds ';' stands in double quotes"),
        ("to,text\n+1,\n", "line 2 has no text"),
        ('to,text\n+1,"a "word" more"\n', "a quote within a quoted field is written twice"),
        ('to,text\n+1,"never ends\n+2,b\n', "a quote opened on line 2 is never closed"),
        ('to,text\n+1,a\n+2,"b"c\n', "line 3: "),
        (b"to,text\n+1,\xff\n", "line 2 is not UTF-8"),
        (codecs.BOM_UTF16_LE + "to,text".encode("utf-16-le"), "UTF-16"),
        ("to,text\n+1," + "x" * (csv_messages.TEXT_CHARACTERS_MAX + 1), "more than any message can hold"),
        (
            "to,text\n+1," + "x" * (csv_rows.FIELD_CHARACTERS_MAX + 1),
            "line 2: a field has more than 131,072 characters",
        ),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_the_place(raw, words):
    assert words in fault(raw)


def test_the_hash_is_that_of_the_bytes():
    one, other = read_csv(b"to,text\n+1,a\n"), read_csv(b"to,text\n+1,a\n\n")
    assert one.messages == other.messages
    assert one.sha256 != other.sha256


def test_the_test_data_is_read_whole():
    file = read_csv(MESSAGES.read_bytes())
    assert len(file.messages) == 5_000
    assert all(row.to.startswith("+") and row.text for row in file.messages)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with contextlib.suppress(CsvFault):
        assert read_csv(raw).messages
