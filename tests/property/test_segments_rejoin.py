import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.segments import SEGMENTS_LIMIT, TextTooLong, segment
from tests.support.segment_texts import PART_UNITS, SINGLE_UNITS, fewest_parts, texts, units_of


@settings(max_examples=500)
@given(texts())
def test_the_segments_rejoin_to_the_text_and_each_fits(text):
    parts = segment(text, segments_max=SEGMENTS_LIMIT)
    assert "".join(parts.segments) == text
    assert all(parts.segments)
    assert len(parts.segments) == parts.count, "what is billed is what is shown"
    room = SINGLE_UNITS[parts.encoding] if parts.count == 1 else PART_UNITS[parts.encoding]
    sizes = [sum(units_of(c, parts.encoding) for c in part) for part in parts.segments]
    assert max(sizes) <= room
    assert sum(sizes) == parts.units


@settings(max_examples=500)
@given(texts())
def test_there_are_never_more_segments_than_the_text_needs(text):
    parts = segment(text, segments_max=SEGMENTS_LIMIT)
    if parts.units <= SINGLE_UNITS[parts.encoding]:
        assert parts.count == 1
    else:
        assert parts.count == fewest_parts(text, parts.encoding)


@settings(max_examples=500)
@given(texts())
def test_a_text_is_refused_exactly_when_it_needs_more_than_the_limit(text):
    needed = segment(text, segments_max=SEGMENTS_LIMIT).count
    assert segment(text, segments_max=needed).count == needed
    if needed > 1:
        with pytest.raises(TextTooLong) as refusal:
            segment(text, segments_max=needed - 1)
        told = refusal.value.segments_needed
        assert told <= needed if refusal.value.encoding is None else told == needed


@settings(max_examples=500)
@given(texts(), st.integers(1, 12))
def test_what_is_refused_unseen_would_be_refused_when_measured(text, segments_max):
    measured = segment(text, segments_max=SEGMENTS_LIMIT)
    if measured.count <= segments_max:
        found = segment(text, segments_max=segments_max)
        assert (found, found.segments) == (measured, measured.segments)
        return
    with pytest.raises(TextTooLong) as refusal:
        segment(text, segments_max=segments_max)
    assert segments_max < refusal.value.segments_needed <= measured.count
    assert refusal.value.encoding in {None, measured.encoding}
