import csv
from pathlib import Path

import pytest

from shared.domain.alphabet import encode_gsm7
from shared.domain.segments import (
    SEGMENTS_LIMIT,
    SEGMENTS_MAX,
    Encoding,
    TextEmpty,
    TextNotStorable,
    TextTooLong,
    segment,
)
from tests.support.calls import calls_of

MESSAGES = Path(__file__).parent.parent / "data" / "messages.csv"
FAMILY = "👩\u200d👩\u200d👧\u200d👦"  # 11 UTF-16 units


@pytest.mark.parametrize(
    ("text", "encoding", "count", "units"),
    [
        ("a", Encoding.GSM7, 1, 1),
        ("a" * 160, Encoding.GSM7, 1, 160),
        ("a" * 161, Encoding.GSM7, 2, 161),
        ("a" * 306, Encoding.GSM7, 2, 306),
        ("a" * 307, Encoding.GSM7, 3, 307),
        ("€" * 80, Encoding.GSM7, 1, 160),
        ("€" * 80 + "a", Encoding.GSM7, 2, 161),
        ("€" * 152, Encoding.GSM7, 2, 304),
        ("€" * 153, Encoding.GSM7, 3, 306),
        ("ç", Encoding.UCS2, 1, 1),
        ("`", Encoding.UCS2, 1, 1),
        ("й" * 70, Encoding.UCS2, 1, 70),
        ("й" * 71, Encoding.UCS2, 2, 71),
        ("й" * 134, Encoding.UCS2, 2, 134),
        ("й" * 135, Encoding.UCS2, 3, 135),
        ("😀" * 35, Encoding.UCS2, 1, 70),
        ("😀" * 36, Encoding.UCS2, 2, 72),
        ("😀" * 66, Encoding.UCS2, 2, 132),
        ("😀" * 67, Encoding.UCS2, 3, 134),
        ("\r\n\f", Encoding.GSM7, 1, 4),
        (" ", Encoding.GSM7, 1, 1),
    ],
)
def test_the_capacities_of_the_standard_decide(text, encoding, count, units):
    parts = segment(text)
    assert (parts.encoding, parts.count, parts.units) == (encoding, count, units)
    assert "".join(parts.segments) == text


def test_one_character_outside_the_alphabet_makes_the_whole_text_ucs2():
    assert segment("a" * 159 + "й").encoding is Encoding.UCS2
    assert segment("a" * 159 + "й").count == 3


def test_an_escape_pair_goes_to_the_next_segment_whole():
    parts = segment("a" * 152 + "€" + "b" * 20)
    assert parts.segments == ("a" * 152, "€" + "b" * 20)
    assert [len(encode_gsm7(part)) for part in parts.segments] == [152, 22]


def test_a_surrogate_pair_goes_to_the_next_segment_whole():
    assert segment("й" * 66 + "😀" + "б" * 20).segments == ("й" * 66, "😀" + "б" * 20)


@pytest.mark.parametrize("cluster", [FAMILY, "🇩🇪", "и\u0306", "👍🏽", "❤\ufe0f", "\r\n"])
def test_a_cluster_goes_to_the_next_segment_whole(cluster):
    assert segment("й" * 66 + cluster + "б" * 20).segments == ("й" * 66, cluster + "б" * 20)


def test_a_line_end_of_two_characters_stays_whole_in_gsm_too():
    assert segment("a" * 152 + "\r\n" + "b" * 20).segments == ("a" * 152, "\r\n" + "b" * 20)


def test_a_cluster_is_torn_rather_than_a_further_segment_billed():
    text = "й" * 65 + FAMILY + "б" * (67 - 9)
    assert segment(text).segments == ("й" * 65 + "👩", FAMILY[1:] + "б" * (67 - 9))


def test_a_cluster_larger_than_a_segment_is_cut_where_it_is_full():
    text = "e" + "\u0301" * 100
    assert [len(part) for part in segment(text).segments] == [67, 34]


def test_clusters_stay_whole_as_long_as_there_are_units_to_spare():
    text = "й" * 66 + "e\u0301" + "й" * 64 + "e\u0301" + "й" * 66
    first, second, third = segment(text).segments
    assert first == "й" * 66
    assert second == "e\u0301" + "й" * 64 + "e"
    assert third == "\u0301" + "й" * 66


@pytest.mark.parametrize(
    ("text", "needed"), [("a" * 1531, 11), ("й" * 671, 11), ("€" * 761, 11), ("a" * 100_000, 654)]
)
def test_a_text_too_long_is_refused_with_both_numbers(text, needed):
    with pytest.raises(TextTooLong, match=f"{needed} segments.*at most {SEGMENTS_MAX}") as refusal:
        segment(text)
    assert refusal.value.segments_needed == needed
    assert refusal.value.segments_max == SEGMENTS_MAX


def test_the_limit_can_be_lower_or_higher():
    with pytest.raises(TextTooLong):
        segment("a" * 161, segments_max=1)
    assert segment("a" * 160, segments_max=1).count == 1
    assert segment("a" * (255 * 153), segments_max=SEGMENTS_LIMIT).count == SEGMENTS_LIMIT


@pytest.mark.parametrize("segments_max", [0, -1, 256])
def test_a_limit_that_no_header_can_count_is_an_error_of_the_caller(segments_max):
    with pytest.raises(ValueError, match="1 to 255"):
        segment("a", segments_max=segments_max)


def test_an_empty_text_is_refused():
    with pytest.raises(TextEmpty):
        segment("")


@pytest.mark.parametrize("text", ["\0", "abc\0", "й\0", "\ud83d", "abc\ude00", "\ud83d\ude00", "😀\udfff"])
def test_what_cannot_be_stored_is_refused(text):
    with pytest.raises(TextNotStorable):
        segment(text)


@pytest.mark.parametrize("character", ["a", "€", "й", "😀"])
def test_a_huge_text_is_refused_with_no_more_work_than_one_a_little_too_long(character):
    little, huge = character * 1_531 + "😀", character * 1_000_000 + "😀"
    assert calls_of(lambda: refuse_unseen(huge)) == calls_of(lambda: refuse_unseen(little))


def refuse_unseen(text: str) -> None:
    """One call looks at a text's characters, however many they are: so this one sees that it is not made."""
    with pytest.raises(TextTooLong) as refusal:
        segment(text)
    assert refusal.value.encoding is None


def test_of_a_text_that_was_not_looked_at_is_said_what_it_takes_at_least():
    with pytest.raises(TextTooLong) as refusal:
        segment("й" * 1_000_000)
    assert str(refusal.value) == "the text needs at least 6536 segments, at most 10 may be sent"
    with pytest.raises(TextTooLong) as refusal:
        segment("й" * 1_000)
    assert str(refusal.value) == "the text needs 15 segments as UCS2, at most 10 may be sent"


def test_real_texts_of_hundreds_of_languages_are_split_and_joined():
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    all_parts = [segment(text, segments_max=SEGMENTS_LIMIT) for text in texts]
    assert len(all_parts) == 5_000
    assert ["".join(parts.segments) for parts in all_parts] == texts
    assert sum(parts.count for parts in all_parts) == 12_527
    assert sum(parts.count > SEGMENTS_MAX for parts in all_parts) == 5
