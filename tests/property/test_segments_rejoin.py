import pytest
from hypothesis import given, settings

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
        assert refusal.value.segments_needed == needed
