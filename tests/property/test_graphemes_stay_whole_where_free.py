from itertools import accumulate

from hypothesis import given, settings

from shared.domain.graphemes import is_boundary
from shared.domain.segments import SEGMENTS_LIMIT, segment
from tests.support.segment_texts import PART_UNITS, fewest_parts, texts, units_of


def clusters(text: str) -> list[str]:
    whole = [text[0]]
    for index in range(1, len(text)):
        if is_boundary(text, index):
            whole.append(text[index])
        else:
            whole[-1] += text[index]
    return whole


def torn_cuts(segments: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (number of the segment before the cut, index in the text) of each cut inside a cluster."""
    text = "".join(segments)
    ends = list(accumulate(map(len, segments)))[:-1]
    return [(number, end) for number, end in enumerate(ends) if not is_boundary(text, end)]


@settings(max_examples=500)
@given(texts())
def test_no_cluster_is_torn_if_whole_ones_need_no_more_segments(text):
    parts = segment(text, segments_max=SEGMENTS_LIMIT)
    whole = clusters(text)
    sizes = [sum(units_of(c, parts.encoding) for c in cluster) for cluster in whole]
    if max(sizes) <= PART_UNITS[parts.encoding] and fewest_parts(whole, parts.encoding) == parts.count:
        assert torn_cuts(parts.segments) == []


@settings(max_examples=500)
@given(texts())
def test_each_torn_cluster_would_have_cost_a_segment(text):
    parts = segment(text, segments_max=SEGMENTS_LIMIT)
    for number, end in torn_cuts(parts.segments):
        start = sum(map(len, parts.segments[:number]))
        begins = end
        while begins > start and not is_boundary(text, begins):
            begins -= 1
        segments_left = parts.count - number - 1
        assert begins == start or fewest_parts(text[begins:], parts.encoding) > segments_left
